package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	custos "github.com/custos-gateway/custos"
)

func TestTargetsOverHTTP(t *testing.T) {
	for _, test := range []struct {
		address, credential string
		want                custos.Connection
		username            string
		secret              Secret
	}{
		{"https://api.example.com", "none: true", custos.Connection{Address: "api.example.com:443", TLS: custos.TargetTLS{Mode: "verify-full"}}, "", Secret{}},
		{"https://api.example.com:8443/v2/", "bearer: {env: TOKEN}",
			custos.Connection{Address: "api.example.com:8443", Path: "/v2", TLS: custos.TargetTLS{Mode: "verify-full"}, Auth: custos.Auth{Scheme: "bearer"}}, "", Secret{Env: "TOKEN"}},
		{"http://127.0.0.1", "username: app, password: {env: A}", custos.Connection{Address: "127.0.0.1:80", TLS: custos.TargetTLS{Mode: "disable"}, Auth: custos.Auth{Scheme: "basic"}}, "app", Secret{Env: "A"}},
		{"http://[::1]:9200/x%2Fy", "header: {name: x-api-key, value: {env: A}}",
			custos.Connection{Address: "[::1]:9200", Path: "/x%2Fy", TLS: custos.TargetTLS{Mode: "disable"}, Auth: custos.Auth{Scheme: "header", Name: "X-Api-Key"}}, "", Secret{Env: "A"}},
		{"api.example.com:443", "query: {name: key, value: {env: A}}",
			custos.Connection{Address: "api.example.com:443", TLS: custos.TargetTLS{Mode: "verify-full"}, Auth: custos.Auth{Scheme: "query", Name: "key"}}, "", Secret{Env: "A"}},
		{"https://api.example.com", "oauth: {token_url: 'https://id.example.com/token', client_id: me, client_secret: {env: A}, scopes: [read]}",
			custos.Connection{Address: "api.example.com:443", TLS: custos.TargetTLS{Mode: "verify-full"}, Auth: custos.Auth{Scheme: "oauth", TokenURL: "https://id.example.com/token", Scopes: []string{"read"}}}, "me", Secret{Env: "A"}},
		{"https://s3.eu-central-1.amazonaws.com", "sigv4: {region: eu-central-1, service: s3, access_key_id: AK, secret_access_key: {env: A}}",
			custos.Connection{Address: "s3.eu-central-1.amazonaws.com:443", TLS: custos.TargetTLS{Mode: "verify-full"}, Auth: custos.Auth{Scheme: "sigv4", Region: "eu-central-1", Service: "s3"}}, "AK", Secret{Env: "A"}},
	} {
		c, err := parse("custos.yaml", []byte(`listen: {https: "127.0.0.1:0"}
issuers: [{url: "https://id.example.com", audience: custos}]
policies: [{rule: all, then: allow}]
connections: [{name: api, protocol: http, address: '`+test.address+`', credential: {`+test.credential+`}, access: [{groups: [dba]}]}]
`), spoken)
		if err != nil {
			t.Errorf("%s: %v", test.address, err)
			continue
		}
		test.want.Name, test.want.Protocol, test.want.Database, test.want.Access = "api", "http", "api", []custos.Access{{Groups: []string{"dba"}}}
		if diff := cmp.Diff(&test.want, c.Targets()[0]); diff != "" {
			t.Errorf("%s: %s", test.address, diff)
		}
		username, secret := c.Connections[0].Credential.Login()
		if username != test.username || secret != test.secret {
			t.Errorf("%s: it logs in as %q with %v", test.address, username, secret)
		}
	}
}
