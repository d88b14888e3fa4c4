package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/custos-gateway/custos/internal/durable"
)

// Stored are secrets that were given to the gateway, in a folder, a file each:
// each is encrypted with a key of its own, which is encrypted with one that
// lies elsewhere, in a file or in the vault service.
type Stored struct {
	Dir string
	// KeyFile holds the 32 bytes of the key that the others are encrypted with.
	KeyFile string
	// MakeKey lets Put make KeyFile, where it is not there.
	MakeKey bool
	// Transit, if not nil, is used in place of KeyFile.
	Transit *Transit
}

// envelope is such a file. Key is the secret's key, encrypted: with the one in
// KeyFile, as nonce and ciphertext, or as the transit engine gave it. Secret is
// nonce and ciphertext. Both are AES-256-GCM (NIST SP 800-38D) with the
// secret's name as additional data.
type envelope struct {
	Version int    `json:"version"`
	Transit bool   `json:"transit"`
	Key     []byte `json:"key"`
	Secret  []byte `json:"secret"`
}

const (
	envelopeVersion = 1
	keySize         = 32
	maxEnvelope     = 256 << 10
)

var errNotStored = errors.New("nothing is stored for it: run custos connection secret set")

// Put stores a secret under a connection's name, in one step: a crash leaves
// the one that was there, or this one.
func (s *Stored) Put(ctx context.Context, name, secret string) error {
	if secret == "" {
		return errors.New("store secret: it is empty")
	}
	if _, err := check(secret, "what was sent"); err != nil {
		return fmt.Errorf("store secret of %s: %w", name, err)
	}
	key := make([]byte, keySize)
	rand.Read(key)
	defer clear(key)
	e := envelope{Version: envelopeVersion, Transit: s.Transit != nil}
	var err error
	if e.Key, err = s.wrap(ctx, name, key); err != nil {
		return fmt.Errorf("store secret of %s: %w", name, err)
	}
	if e.Secret, err = seal(key, name, []byte(secret)); err != nil {
		return fmt.Errorf("store secret of %s: %w", name, err)
	}
	b, err := json.Marshal(e)
	if err == nil {
		err = os.MkdirAll(s.Dir, 0o700)
	}
	if err == nil {
		err = durable.OS.SyncDir(filepath.Dir(s.Dir))
	}
	if err == nil {
		err = durable.WriteFile(durable.OS, s.path(name), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("store secret of %s: %w", name, err)
	}
	return nil
}

// Remove removes the secret stored under a name, and reports whether there
// was one.
func (s *Stored) Remove(name string) (bool, error) {
	err := os.Remove(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = durable.OS.SyncDir(s.Dir)
	}
	if err != nil {
		return false, fmt.Errorf("remove secret of %s: %w", name, err)
	}
	return true, nil
}

func (s *Stored) path(name string) string { return filepath.Join(s.Dir, name) }

func (s *Stored) get(ctx context.Context, name string) (string, error) {
	b, err := durable.ReadFile(durable.OS, s.path(name), maxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errNotStored
	}
	if err != nil {
		return "", fmt.Errorf("read stored secret: %w", err)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil || e.Version != envelopeVersion {
		return "", errors.New("read stored secret: its file is damaged: run custos connection secret set again")
	}
	key, err := s.unwrap(ctx, name, &e)
	if err != nil {
		return "", fmt.Errorf("read stored secret: %w", err)
	}
	defer clear(key)
	secret, err := open(key, name, e.Secret)
	if err != nil {
		return "", fmt.Errorf("read stored secret: %w", err)
	}
	return string(secret), nil
}

func (s *Stored) wrap(ctx context.Context, name string, key []byte) ([]byte, error) {
	if s.Transit != nil {
		return s.Transit.encrypt(ctx, key)
	}
	outer, err := s.key(s.MakeKey)
	if err != nil {
		return nil, err
	}
	defer clear(outer)
	return seal(outer, name, key)
}

func (s *Stored) unwrap(ctx context.Context, name string, e *envelope) ([]byte, error) {
	switch {
	case e.Transit && s.Transit == nil:
		return nil, errors.New("it was encrypted with the vault's transit engine: set stored.transit, or run custos connection secret set again")
	case !e.Transit && s.Transit != nil:
		return nil, errors.New("it was encrypted with a key file, before stored.transit was set: run custos connection secret set again")
	case e.Transit:
		return s.Transit.decrypt(ctx, e.Key)
	}
	outer, err := s.key(false)
	if err != nil {
		return nil, err
	}
	defer clear(outer)
	return open(outer, name, e.Key)
}

// key reads the key file, or makes it.
func (s *Stored) key(may bool) ([]byte, error) {
	info, err := os.Stat(s.KeyFile)
	if errors.Is(err, fs.ErrNotExist) && may {
		key := make([]byte, keySize)
		rand.Read(key)
		if err := os.MkdirAll(filepath.Dir(s.KeyFile), 0o700); err != nil {
			return nil, err
		}
		return key, durable.WriteFile(durable.OS, s.KeyFile, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("read key of stored secrets: %w: put it back from your backup", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read key of stored secrets: %s is open to others (mode %04o): run chmod 600 %s", s.KeyFile, info.Mode().Perm(), s.KeyFile)
	}
	key, err := durable.ReadFile(durable.OS, s.KeyFile, keySize)
	if err == nil && len(key) != keySize {
		err = fmt.Errorf("it has %d bytes and not %d", len(key), keySize)
	}
	if err != nil {
		return nil, fmt.Errorf("read key of stored secrets %s: %w", s.KeyFile, err)
	}
	return key, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func seal(key []byte, name string, plain []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plain, additional(name)), nil
}

func open(key []byte, name string, sealed []byte) ([]byte, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	n := aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("it is cut: run custos connection secret set again")
	}
	plain, err := aead.Open(nil, sealed[:n], sealed[n:], additional(name))
	if err != nil {
		return nil, errors.New("it was altered, or its key is another: put the key back from your backup, or run custos connection secret set again")
	}
	return plain, nil
}

func additional(name string) []byte { return []byte("custos credential of " + name) }
