package vaulttest

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/vault/api"
)

// caFile writes the server's certificate, for clients to trust.
func caFile(t *testing.T, cert *x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The vault's own client library finds here what it looks for.
func TestOwnClientLibrary(t *testing.T) {
	s := Start()
	defer s.Close()
	s.Put("prod/orders", map[string]string{"password": "kept"})
	c := api.DefaultConfig()
	c.Address, c.MaxRetries = s.URL, 0
	if err := c.ConfigureTLS(&api.TLSConfig{CACert: caFile(t, s.Certificate())}); err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	client.ClearToken()
	ctx := context.Background()
	write := func(path string, body map[string]any) *api.Secret {
		t.Helper()
		secret, err := client.Logical().WriteWithContext(ctx, path, body)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	if _, err := client.Logical().WriteWithContext(ctx, "auth/approle/login", map[string]any{"role_id": s.RoleID, "secret_id": "wrong"}); err == nil {
		t.Error("a wrong secret id logs in")
	}
	login := write("auth/approle/login", map[string]any{"role_id": s.RoleID, "secret_id": s.SecretID})
	if ttl, err := login.TokenTTL(); err != nil || ttl != s.TokenLife {
		t.Errorf("the token lasts %v, %v", ttl, err)
	}
	if again := write("auth/jwt/login", map[string]any{"role": "custos", "jwt": s.JWT}); again.Auth.ClientToken == login.Auth.ClientToken {
		t.Error("two logins give one token")
	}
	client.SetToken(login.Auth.ClientToken)
	if self, err := client.Auth().Token().RenewSelfWithContext(ctx, 60); err != nil || !self.Auth.Renewable {
		t.Errorf("renew: %+v, %v", self, err)
	}
	kv, err := client.KVv2("secret").Get(ctx, "prod/orders")
	if err != nil || kv.Data["password"] != "kept" {
		t.Errorf("the secret is %+v, %v", kv, err)
	}
	user, err := client.Logical().ReadWithContext(ctx, "database/creds/orders-app")
	if err != nil || user.LeaseID == "" || user.Data["username"] != s.Users()[0] {
		t.Fatalf("the user is %+v, %v", user, err)
	}
	if renewed, err := client.Sys().RenewWithContext(ctx, user.LeaseID, 60); err != nil || renewed.LeaseDuration == 0 {
		t.Errorf("renew the lease: %+v, %v", renewed, err)
	}
	if err := client.Sys().RevokeWithContext(ctx, user.LeaseID); err != nil || len(s.Users()) != 0 {
		t.Errorf("revoke the lease: %v; there is %v", err, s.Users())
	}
	sealed := write("transit/encrypt/custos", map[string]any{"plaintext": base64.StdEncoding.EncodeToString([]byte("a key"))})
	opened := write("transit/decrypt/custos", map[string]any{"ciphertext": sealed.Data["ciphertext"]})
	if plain, err := base64.StdEncoding.DecodeString(opened.Data["plaintext"].(string)); err != nil || string(plain) != "a key" {
		t.Errorf("transit gives %q, %v", plain, err)
	}
}
