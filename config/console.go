package config

import "fmt"

// ConsoleClient is what is registered at the issuer for the console.
type ConsoleClient struct {
	// The client's id, registered with the redirect URI URL/signin/callback.
	ClientID string `yaml:"client_id" jsonschema:"required"`
	// Where the client's secret lies: env, file or vault. Absent: a public
	// client.
	Secret *Secret `yaml:"secret"`
	// The scopes that the console asks for. Absent: those of the issuer, or
	// openid and profile.
	Scopes []string `yaml:"scopes"`
}

// consolePaths are the paths that are taken from the file's own folder.
func (c *Config) consolePaths() (paths []*string) {
	for _, i := range c.Issuers {
		if i.Console != nil && i.Console.Secret != nil {
			paths = append(paths, &i.Console.Secret.File)
		}
	}
	return paths
}

// checkConsole reports what is wrong with how people sign in to the console.
func (d *decoder) checkConsole(c *Config) {
	for n, i := range c.Issuers {
		if i.Console == nil || i.Console.Secret == nil {
			continue
		}
		key := fmt.Sprintf("issuers[%d].console.secret", n)
		d.checkSecret(c, i.Console.Secret, key)
		if i.Console.Secret.Stored {
			d.fail(key, "stored is for connections: want env, file or vault")
		}
	}
}
