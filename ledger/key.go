package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/custos-gateway/custos/internal/durable"
)

// LoadOrCreateKey returns the log's key at path, and its verifier key for
// others (C2SP signed-note). Where there is none it makes one, with name, the
// log's origin, and puts the verifier key beside it: ledger.key has
// ledger.pub. The key's folder must not be the log's: whoever copies the log
// must not get the key with it.
func LoadOrCreateKey(path, name string) (signer note.Signer, vkey string, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = createKey(path, name)
	}
	if err != nil {
		return nil, "", fmt.Errorf("load ledger key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", fmt.Errorf("load ledger key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, "", fmt.Errorf("load ledger key %s: others may read it; run chmod 600 on it, and think whether they did", path)
	}
	skey := strings.TrimSpace(string(b))
	signer, err = note.NewSigner(skey)
	if err != nil {
		return nil, "", fmt.Errorf("load ledger key %s: it is not a signing key; restore it from a backup", path)
	}
	if signer.Name() != name {
		return nil, "", fmt.Errorf("load ledger key %s: it is the key of ledger %q, not of %q; set ledger.origin to that, or use another key", path, signer.Name(), name)
	}
	vkey, err = verifierKey(skey)
	if err != nil {
		return nil, "", fmt.Errorf("load ledger key %s: %w", path, err)
	}
	return signer, vkey, nil
}

// verifierKey is the public half of an encoded signing key,
// PRIVATE+KEY+name+hash+base64(0x01 || seed).
func verifierKey(skey string) (string, error) {
	parts := strings.SplitN(skey, "+", 5)
	if len(parts) != 5 {
		return "", errors.New("it is not a signing key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return "", errors.New("it is not an Ed25519 signing key")
	}
	return note.NewEd25519VerifierKey(parts[2], ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey))
}

// createKey makes a key, durable before it is used. A crash in between leaves
// a key without its public half beside it, which can be had again.
func createKey(path, name string) ([]byte, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	b := []byte(skey + "\n")
	if err := durable.WriteFile(durable.OS, path, b, 0o600); err != nil {
		return nil, err
	}
	public := strings.TrimSuffix(path, filepath.Ext(path)) + ".pub"
	return b, durable.WriteFile(durable.OS, public, []byte(vkey+"\n"), 0o644)
}
