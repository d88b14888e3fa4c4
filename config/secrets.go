package config

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// Secret says where a secret lies: exactly one of its keys. The secret itself
// is never written in this file.
type Secret struct {
	// An environment variable of the gateway, read for every session.
	Env string `yaml:"env" jsonschema:"example=ORDERS_PASSWORD"`
	// A file that no other user may read, read again for every session. One
	// newline at its end is cut.
	File string `yaml:"file"`
	// It was given with custos connection secret set, and lies encrypted in
	// data_dir/credentials.
	Stored bool `yaml:"stored"`
	// A secret of the key/value engine, version 2, of the vault.
	Vault *VaultSecret `yaml:"vault"`
}

// VaultSecret is a secret of the vault's key/value engine, read for every
// session.
type VaultSecret struct {
	// Where the engine is mounted.
	Mount string `yaml:"mount" jsonschema:"default=secret"`
	// The secret's path below it.
	Path string `yaml:"path" jsonschema:"required,example=prod/orders"`
	// Which of its fields.
	Field string `yaml:"field" jsonschema:"default=password"`
}

// VaultDatabase is a role of the vault's database engine: user and password
// are made for the sessions that are open, and removed after the last.
type VaultDatabase struct {
	// Where the engine is mounted.
	Mount string `yaml:"mount" jsonschema:"default=database"`
	// The role whose credentials are asked for.
	Role string `yaml:"role" jsonschema:"required,example=orders-app"`
}

// Vault is a HashiCorp Vault or OpenBao server that has secrets.
type Vault struct {
	// The server's address.
	Address string `yaml:"address" jsonschema:"required,example=https://vault.internal:8200"`
	// The namespace of all paths.
	Namespace string `yaml:"namespace"`
	// A file of PEM certificates to trust for it, in place of the system's
	// roots.
	CAFile string `yaml:"ca_file"`
	// How the gateway logs in to it.
	Auth VaultAuth `yaml:"auth" jsonschema:"required"`
}

// VaultAuth is how the gateway logs in to the vault: exactly one of its keys.
type VaultAuth struct {
	// With a token that is there, such as one that an agent of the vault's
	// keeps fresh: env or file.
	Token *Secret `yaml:"token"`
	// With the AppRole method.
	AppRole *VaultAppRole `yaml:"approle"`
	// With the JWT or the Kubernetes method: a token of the workload itself.
	JWT *VaultJWT `yaml:"jwt"`
}

// VaultAppRole logs in by the AppRole method.
type VaultAppRole struct {
	// Where the method is mounted.
	Mount string `yaml:"mount" jsonschema:"default=approle"`
	// The role's id.
	RoleID string `yaml:"role_id" jsonschema:"required"`
	// Where its secret lies: env or file.
	SecretID Secret `yaml:"secret_id" jsonschema:"required"`
}

// VaultJWT logs in by the JWT method, or the Kubernetes method.
type VaultJWT struct {
	// Where the method is mounted, such as kubernetes.
	Mount string `yaml:"mount" jsonschema:"default=jwt"`
	// The role to log in as.
	Role string `yaml:"role" jsonschema:"required"`
	// The file with the workload's token, read at each login.
	TokenFile string `yaml:"token_file" jsonschema:"required,example=/var/run/secrets/kubernetes.io/serviceaccount/token"`
}

// StoredSecrets says how the secrets in data_dir/credentials are encrypted:
// each with a key of its own, which is encrypted with this one. At most one of
// its keys; absent: with data_dir/keys/credentials.key.
type StoredSecrets struct {
	// A file of 32 bytes that only the gateway's user may read, which is not
	// in data_dir.
	KeyFile string `yaml:"key_file" jsonschema:"example=/run/secrets/custos-credentials.key"`
	// A key of the vault's transit engine, which never leaves the vault.
	Transit *VaultTransit `yaml:"transit"`
}

// VaultTransit is a key of the vault's transit engine.
type VaultTransit struct {
	// Where the engine is mounted.
	Mount string `yaml:"mount" jsonschema:"default=transit"`
	// The key's name.
	Key string `yaml:"key" jsonschema:"required,example=custos"`
}

// secretPaths are the paths that are taken from the file's own folder.
func (c *Config) secretPaths() []*string {
	paths := []*string{&c.Stored.KeyFile}
	if v := c.Vault; v != nil {
		paths = append(paths, &v.CAFile)
		if v.Auth.Token != nil {
			paths = append(paths, &v.Auth.Token.File)
		}
		if v.Auth.AppRole != nil {
			paths = append(paths, &v.Auth.AppRole.SecretID.File)
		}
		if v.Auth.JWT != nil {
			paths = append(paths, &v.Auth.JWT.TokenFile)
		}
	}
	return paths
}

// checkSecrets reports what is wrong with the vault and the credentials.
func (d *decoder) checkSecrets(c *Config) {
	if v := c.Vault; v != nil {
		d.checkURL(v.Address, "vault.address")
		methods := 0
		if v.Auth.Token != nil {
			methods++
			d.checkPlain(v.Auth.Token, "vault.auth.token")
		}
		if v.Auth.AppRole != nil {
			methods++
			d.checkPlain(&v.Auth.AppRole.SecretID, "vault.auth.approle.secret_id")
			d.checkVaultPath(v.Auth.AppRole.Mount, "vault.auth.approle.mount")
		}
		if v.Auth.JWT != nil {
			methods++
			d.checkVaultPath(v.Auth.JWT.Mount, "vault.auth.jwt.mount")
		}
		if methods != 1 {
			d.fail("vault.auth", "want exactly one of token, approle and jwt")
		}
	}
	if t := c.Stored.Transit; t != nil {
		d.needsVault(c, "stored.transit")
		d.checkVaultPath(t.Mount, "stored.transit.mount")
		d.checkVaultPath(t.Key, "stored.transit.key")
		if c.Stored.KeyFile != "" {
			d.fail("stored", "want at most one of key_file and transit")
		}
	}
	for i := range c.Connections {
		d.checkCredential(c, &c.Connections[i].Credential, fmt.Sprintf("connections[%d].credential", i))
	}
}

// checkCredential reports what is wrong with how a target is logged in to.
func (d *decoder) checkCredential(c *Config, n *Credential, key string) {
	if _, present := d.at[key]; !present {
		return
	}
	_, password := d.at[key+".password"]
	_, bearer := d.at[key+".bearer"]
	var kinds []string
	for _, k := range []struct {
		name string
		is   bool
	}{{"username", n.Username != "" || password}, {"bearer", bearer}, {"vault", n.Vault != nil}, {"header", n.Header != nil}, {"query", n.Query != nil},
		{"oauth", n.OAuth != nil}, {"sigv4", n.SigV4 != nil}, {"none", n.None}} {
		if k.is {
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) > 1:
		d.fail(key, "want one of username with password, bearer, vault, header, query, oauth, sigv4 and none; there are %s", strings.Join(kinds, " and "))
		return
	case len(kinds) == 0 || password && n.Username == "":
		d.fail(key, "add username, bearer for a token, or vault for a user that the vault makes; over HTTP also header, query, oauth, sigv4, or none: true")
		return
	}
	secret, at := n.secret()
	switch {
	case n.Vault != nil:
		d.needsVault(c, key+".vault")
		d.checkVaultPath(n.Vault.Mount, key+".vault.mount")
		d.checkVaultPath(n.Vault.Role, key+".vault.role")
		return
	case n.None, n.Username != "" && !password:
		return
	case n.OAuth != nil:
		d.checkURL(n.OAuth.TokenURL, key+".oauth.token_url")
	case n.Header != nil && !headerName.MatchString(n.Header.Name):
		d.fail(key+".header.name", "want the name of a field, such as X-Api-Key")
	}
	d.checkSecret(c, secret, key+at)
}

// headerName is what a field may be called, but for those that say how a message
// is read (RFC 9110, section 5.6.2).
var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

// secret is what of a credential is secret, and under which key it stands.
func (n *Credential) secret() (s *Secret, at string) {
	switch {
	case n.Header != nil:
		return &n.Header.Value, ".header.value"
	case n.Query != nil:
		return &n.Query.Value, ".query.value"
	case n.OAuth != nil:
		return &n.OAuth.ClientSecret, ".oauth.client_secret"
	case n.SigV4 != nil:
		return &n.SigV4.SecretAccessKey, ".sigv4.secret_access_key"
	case n.Bearer != (Secret{}):
		return &n.Bearer, ".bearer"
	}
	return &n.Password, ".password"
}

// Login is who logs in, and where the secret lies that goes with it.
func (n *Credential) Login() (username string, secret Secret) {
	s, _ := n.secret()
	switch {
	case n.OAuth != nil:
		return n.OAuth.ClientID, *s
	case n.SigV4 != nil:
		return n.SigV4.AccessKeyID, *s
	}
	return n.Username, *s
}

// auth is how the credential goes with a request over HTTP.
func (n *Credential) auth() custos.Auth {
	switch {
	case n.Header != nil:
		return custos.Auth{Scheme: custos.AuthHeader, Name: http.CanonicalHeaderKey(n.Header.Name)}
	case n.Query != nil:
		return custos.Auth{Scheme: custos.AuthQuery, Name: n.Query.Name}
	case n.OAuth != nil:
		return custos.Auth{Scheme: custos.AuthOAuth, TokenURL: n.OAuth.TokenURL, Scopes: n.OAuth.Scopes, Audience: n.OAuth.Audience}
	case n.SigV4 != nil:
		return custos.Auth{Scheme: custos.AuthSigV4, Region: n.SigV4.Region, Service: n.SigV4.Service}
	case n.Bearer != (Secret{}):
		return custos.Auth{Scheme: custos.AuthBearer}
	case n.Username != "" || n.Vault != nil:
		return custos.Auth{Scheme: custos.AuthBasic}
	}
	return custos.Auth{}
}

// checkSecret checks a secret that a target is given.
func (d *decoder) checkSecret(c *Config, s *Secret, key string) {
	kinds := 0
	for _, there := range []bool{s.Env != "", s.File != "", s.Stored, s.Vault != nil} {
		if there {
			kinds++
		}
	}
	if kinds != 1 {
		d.fail(key, "want exactly one of env, file, stored and vault")
	}
	if s.Vault != nil {
		d.needsVault(c, key+".vault")
		d.checkVaultPath(s.Vault.Mount, key+".vault.mount")
		d.checkVaultPath(s.Vault.Path, key+".vault.path")
	}
}

// checkPlain checks a secret that the vault itself is asked with.
func (d *decoder) checkPlain(s *Secret, key string) {
	if (s.Env == "") == (s.File == "") || s.Stored || s.Vault != nil {
		d.fail(key, "want exactly one of env and file")
	}
}

func (d *decoder) needsVault(c *Config, key string) {
	if c.Vault == nil {
		d.fail(key, "there is no vault to ask: add vault at the top of the file")
	}
}

// checkVaultPath keeps a path of the vault's to what it looks like: it becomes
// a part of a URL.
func (d *decoder) checkVaultPath(path, key string) {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" && path != "" || part == "." || part == ".." || strings.ContainsAny(part, "?#%\\ \x00\r\n") {
			d.fail(key, "want a path such as prod/orders, without a / at either end")
			return
		}
	}
}
