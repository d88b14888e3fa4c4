package recording

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

// What Key says where there is no key. Both are an fs.ErrNotExist.
var (
	// ErrErased says that the session's key was destroyed by Erase.
	ErrErased = fmt.Errorf("the session's key was destroyed: %w", fs.ErrNotExist)
	// ErrUnknown says that the key is not there and was not erased: there
	// never was such a session, or its key was lost.
	ErrUnknown = fmt.Errorf("the session's key is not there: %w", fs.ErrNotExist)
)

const keySize = 32 // bytes, of AES-256

// Store is the folder of all recordings and the master key that wraps the
// sessions' keys. It is safe for concurrent use.
type Store struct {
	dir    string
	master cipher.AEAD
	mask   [32]byte

	mu      sync.Mutex
	folders map[string]bool // made durable
}

// Open opens the recordings in dir with the master key in a file, which lies
// elsewhere. Where there is neither, it makes the key. A crash in it leaves no
// key, or a whole one.
func Open(dir, masterKey string) (*Store, error) {
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	key, err := loadKey(dir, masterKey)
	if err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	mask, err := hkdf.Key(sha256.New, key, nil, "custos/mask", 32)
	if err != nil {
		return nil, fmt.Errorf("derive key of masks: %w", err)
	}
	return &Store{dir: dir, master: aead, mask: [32]byte(mask), folders: map[string]bool{}}, nil
}

// makeDir makes a folder, durably: a key in a folder that a loss of power
// takes is lost.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.OS.SyncDir(filepath.Dir(dir))
}

// MaskKey is the key of the masks that keep equal values equal. It is made from
// the master key (HKDF, RFC 5869), so that tokens stay the same as long as
// recordings can be read.
func (s *Store) MaskKey() [32]byte { return s.mask }

func loadKey(dir, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		names, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			return nil, fmt.Errorf("master key %s is not there, but recordings are; put it back from your backup: without it they cannot be read", path)
		}
		key := make([]byte, keySize)
		rand.Read(key)
		if err := makeDir(filepath.Dir(path)); err != nil {
			return nil, err
		}
		return key, durable.WriteFile(durable.OS, path, key, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("master key %s can be read by others (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	key, err := durable.ReadFile(durable.OS, path, keySize)
	if err == nil && len(key) != keySize {
		err = fmt.Errorf("master key %s has %d bytes, not %d; put it back from your backup", path, len(key), keySize)
	}
	return key, err
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// folder is where a session's files are: many sessions share one.
func (s *Store) folder(id custos.SessionID) string { return filepath.Join(s.dir, string(id[:2])) }

func (s *Store) keyPath(id custos.SessionID) string {
	return filepath.Join(s.folder(id), string(id)+".key")
}

// erasedPath is the file that says, by being there, that a key was erased.
func (s *Store) erasedPath(id custos.SessionID) string {
	return filepath.Join(s.folder(id), string(id)+".erased")
}

// Path is the file of the large answer to the operation of an entry.
func (s *Store) Path(id custos.SessionID, entry uint64) string {
	return answerPath(s.folder(id), id, entry)
}

func answerPath(folder string, id custos.SessionID, entry uint64) string {
	return filepath.Join(folder, string(id)+"."+strconv.FormatUint(entry, 10)+".rec")
}

// Start makes a session's recording. Its key is durable before Start returns.
// A crash in it leaves a key that nothing cites.
func (s *Store) Start(id custos.SessionID) (*Recording, error) {
	if !id.Valid() {
		return nil, fmt.Errorf("start recording: %q is not a session", id)
	}
	if err := s.makeFolder(id); err != nil {
		return nil, fmt.Errorf("start recording: %w", err)
	}
	for _, path := range []string{s.keyPath(id), s.erasedPath(id)} {
		// Another key would make unreadable what the first one sealed.
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("start recording: session %s has one", id)
		}
	}
	key := make([]byte, keySize)
	rand.Read(key)
	nonce := make([]byte, s.master.NonceSize(), s.master.NonceSize()+keySize+s.master.Overhead())
	rand.Read(nonce)
	wrapped := s.master.Seal(nonce, nonce, key, []byte(id))
	if err := durable.WriteFile(durable.OS, s.keyPath(id), wrapped, 0o600); err != nil {
		// Nothing cites this key. On a disk that is full, callers who try
		// again and again must not fill it with names.
		os.Remove(s.keyPath(id) + ".tmp")
		os.Remove(s.keyPath(id))
		return nil, fmt.Errorf("start recording: %w", err)
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("start recording: %w", err)
	}
	sum := sha256.Sum256(key)
	return &Recording{id: id, folder: s.folder(id), aead: aead, digest: hex.EncodeToString(sum[:])}, nil
}

func (s *Store) makeFolder(id custos.SessionID) error {
	name := s.folder(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folders[name] {
		return nil
	}
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := durable.OS.SyncDir(s.dir); err != nil {
		return err
	}
	s.folders[name] = true
	return nil
}

// ExportKey returns a session's key in the clear, for an evidence bundle.
func (s *Store) ExportKey(id custos.SessionID) ([]byte, error) {
	if !id.Valid() {
		return nil, fmt.Errorf("read key: %q is not a session", id)
	}
	if _, err := os.Lstat(s.erasedPath(id)); err == nil {
		return nil, fmt.Errorf("read key of session %s: %w", id, ErrErased)
	}
	b, err := durable.ReadFile(durable.OS, s.keyPath(id), 1<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read key of session %s: %w", id, ErrUnknown)
	}
	if err != nil {
		return nil, fmt.Errorf("read key of session %s: %w", id, err)
	}
	n := s.master.NonceSize()
	if len(b) < n {
		return nil, fmt.Errorf("read key of session %s: its file is cut", id)
	}
	key, err := s.master.Open(nil, b[:n], b[n:], []byte(id))
	if err != nil {
		return nil, fmt.Errorf("read key of session %s: it was altered, or the master key is another", id)
	}
	return key, nil
}

// Key opens what a session sealed.
func (s *Store) Key(id custos.SessionID) (*Key, error) {
	key, err := s.ExportKey(id)
	if err != nil {
		return nil, err
	}
	return OpenWithKey(s.folder(id), id, key)
}

// Erase destroys a session's key, and with it every reading of what the
// session sealed, then removes its answers. The ledger goes on citing them.
// The session must have ended: what it seals later is lost. Erase may be
// called again. A crash in it leaves: nothing changed; or a mark that the key
// is erased, with the key still there or overwritten, so that Key refuses
// already; or answers that nobody can read.
func (s *Store) Erase(id custos.SessionID) error {
	if !id.Valid() {
		return fmt.Errorf("erase recording: %q is not a session", id)
	}
	if err := s.erase(id); err != nil {
		return fmt.Errorf("erase recording: %w", err)
	}
	return nil
}

func (s *Store) erase(id custos.SessionID) error {
	_, key := os.Lstat(s.keyPath(id))
	_, mark := os.Lstat(s.erasedPath(id))
	if errors.Is(key, fs.ErrNotExist) && errors.Is(mark, fs.ErrNotExist) {
		return fmt.Errorf("session %s: %w", id, ErrUnknown)
	}
	if err := durable.WriteFile(durable.OS, s.erasedPath(id), nil, 0o600); err != nil {
		return err
	}
	if err := overwrite(s.keyPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names, err := os.ReadDir(s.folder(id))
	if err != nil {
		return err
	}
	for _, n := range names {
		if name := n.Name(); strings.HasPrefix(name, string(id)+".") && !strings.HasSuffix(name, ".erased") {
			if err := os.Remove(filepath.Join(s.folder(id), name)); err != nil {
				return err
			}
		}
	}
	return durable.OS.SyncDir(s.folder(id))
}

// Lingers reports whether a session's key is there: after Erase it is only if
// that was cut short.
func (s *Store) Lingers(id custos.SessionID) bool {
	if !id.Valid() {
		return false
	}
	_, err := os.Lstat(s.keyPath(id))
	return !errors.Is(err, fs.ErrNotExist)
}

// overwrite puts zeros where a file's bytes are, durably.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Check compares the file of a large answer with what an entry cites. It
// needs no key.
func (s *Store) Check(id custos.SessionID, entry uint64, want custos.Digest) error {
	return CheckFile(s.Path(id, entry), want)
}

// CheckFile compares a file with what an entry cites.
func CheckFile(path string, want custos.Digest) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check recording: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return fmt.Errorf("check recording: %w", err)
	}
	if n != want.Bytes {
		return fmt.Errorf("check recording %s: it has %d bytes, and %d are on record", filepath.Base(path), n, want.Bytes)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("check recording %s: its bytes are not those on record", filepath.Base(path))
	}
	return nil
}
