package recording

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	custos "github.com/custos-gateway/custos"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func openStore(t testing.TB) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "recordings"), filepath.Join(dir, "keys", "recording.key"))
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func start(t testing.TB, s *Store) (*Recording, custos.SessionID) {
	t.Helper()
	id := custos.NewSessionID()
	r, err := s.Start(id)
	if err != nil {
		t.Fatal(err)
	}
	return r, id
}

func key(t testing.TB, s *Store, id custos.SessionID) *Key {
	t.Helper()
	k, err := s.Key(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// write records an answer in pieces and returns what Finish did.
func write(t testing.TB, r *Recording, entry uint64, pieces ...[]byte) ([]byte, *custos.Digest) {
	t.Helper()
	a := r.Answer(entry, t0)
	for i, p := range pieces {
		if err := a.Write(t0.Add(time.Duration(i+1)*time.Millisecond), p); err != nil {
			t.Fatal(err)
		}
	}
	sealed, file, err := a.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return sealed, file
}

func read(k *Key, entry uint64, sealed []byte, file *custos.Digest) ([]byte, error) {
	var in io.Reader
	if file == nil {
		b, err := k.OpenSealed(sealed)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	} else {
		f, err := k.OpenAnswer(entry)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var all []byte
	for r, err := range Records(in) {
		if err != nil {
			return all, err
		}
		all = append(all, r.Bytes...)
	}
	return all, nil
}

func noise(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{1})
	src.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	k := key(t, s, id)
	if !k.Matches(&custos.Opened{Key: r.KeyDigest()}) {
		t.Error("the key is not the one that was committed to")
	}
	entry := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		entry++
		var pieces [][]byte
		var want []byte
		for range rapid.IntRange(1, 20).Draw(rt, "pieces") {
			n := rapid.SampledFrom([]int{0, 1, 127, 128, 5000, 33 << 10, 700 << 10}).Draw(rt, "bytes")
			p := noise(n)
			if rapid.Bool().Draw(rt, "plain") {
				p = bytes.Repeat([]byte("row,"), n/4)
			}
			pieces = append(pieces, p)
			want = append(want, p...)
		}
		sealed, file := write(t, r, entry, pieces...)
		if (sealed == nil) == (file == nil) {
			rt.Fatal("an answer is either sealed or a file")
		}
		if file != nil {
			if err := s.Check(id, entry, *file); err != nil {
				rt.Fatal(err)
			}
		}
		got, err := read(k, entry, sealed, file)
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			rt.Fatalf("%d bytes came back of %d", len(got), len(want))
		}
	})
}

func TestTimes(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	sealed, _ := write(t, r, 1, []byte("a"), []byte("b"))
	plain, err := key(t, s, id).OpenSealed(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for rec, err := range Records(bytes.NewReader(plain)) {
		if err != nil || rec.After != time.Millisecond {
			t.Errorf("%q after %v, %v", rec.Bytes, rec.After, err)
		}
	}
}

// Every altered byte of a large answer is found, by its digest without any
// key and by reading it.
func TestAlteredFileIsFound(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	k := key(t, s, id)
	_, file := write(t, r, 1, bytes.Repeat([]byte("row,"), 10<<10), noise(200), noise(70<<10))
	path := s.Path(id, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	alter := func(name string, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s.Check(id, 1, *file) == nil {
			t.Errorf("%s: the digest fits", name)
		}
		if _, err := read(k, 1, nil, file); err == nil {
			t.Errorf("%s: it reads", name)
		}
	}
	for i := 0; i < len(whole); i += 1 + len(whole)/700 {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		alter("a flipped bit", b)
	}
	for i := 0; i < len(whole); i += 1 + len(whole)/200 {
		alter("cut", whole[:i])
	}
	alter("added to", append(bytes.Clone(whole), 0))
	var ends []int
	for in, at := bytes.NewReader(whole), 0; ; {
		_, body, err := readChunk(in, nil)
		if err != nil {
			break
		}
		at += headSize + len(body)
		ends = append(ends, at)
	}
	if len(ends) < 3 {
		t.Fatalf("%d chunks", len(ends))
	}
	for _, e := range ends[:len(ends)-1] {
		alter("cut between chunks", whole[:e])
	}
	alter("chunks swapped", append(append(append([]byte{}, whole[ends[0]:ends[1]]...), whole[:ends[0]]...), whole[ends[1]:]...))
	os.Remove(path)
	if s.Check(id, 1, *file) == nil {
		t.Error("a missing file fits")
	}
}

func TestEveryAlteredByteOfASmallFileIsFound(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	k := key(t, s, id)
	_, file := write(t, r, 1, bytes.Repeat([]byte("row,"), 10<<10), []byte("end"))
	path := s.Path(id, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) > 2<<10 {
		t.Fatalf("it has %d bytes: choose an answer that compresses well", len(whole))
	}
	for i := range whole {
		for _, bit := range []byte{0x01, 0x80} {
			whole[i] ^= bit
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			if s.Check(id, 1, *file) == nil {
				t.Errorf("byte %d: the digest fits", i)
			}
			if _, err := read(k, 1, nil, file); err == nil {
				t.Errorf("byte %d: it reads", i)
			}
			whole[i] ^= bit
		}
	}
}

func TestAnotherAnswersFileIsFound(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	other, otherID := start(t, s)
	_, file := write(t, r, 1, noise(40<<10))
	write(t, r, 2, noise(40<<10))
	write(t, other, 1, noise(40<<10))
	for name, from := range map[string]string{"of another entry": s.Path(id, 2), "of another session": s.Path(otherID, 1)} {
		if err := os.Rename(from, s.Path(id, 1)); err != nil {
			t.Fatal(err)
		}
		if s.Check(id, 1, *file) == nil {
			t.Errorf("an answer %s: the digest fits", name)
		}
		if _, err := read(key(t, s, id), 1, nil, file); err == nil {
			t.Errorf("an answer %s: it reads", name)
		}
	}
}

// Many at once, sealing and answering: no nonce comes twice, and every answer
// is its own.
func TestManyAtOnce(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	k := key(t, s, id)
	const workers, pieces = 8, 50
	var mu sync.Mutex
	nonces := map[[nonceSize]byte]bool{}
	once := func(n [nonceSize]byte) {
		mu.Lock()
		defer mu.Unlock()
		if nonces[n] {
			t.Errorf("nonce %x comes twice", n)
		}
		nonces[n] = true
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			entry := uint64(w)
			a := r.Answer(entry, t0)
			want := bytes.Repeat([]byte{byte(w)}, 10<<10)
			for range pieces {
				sealed := r.Seal(nil, want[:9])
				once([nonceSize]byte(sealed))
				if got, err := k.OpenSealed(sealed); err != nil || !bytes.Equal(got, want[:9]) {
					t.Errorf("%x, %v", got, err)
				}
				if err := a.Write(t0, want); err != nil {
					t.Error(err)
				}
			}
			_, file, err := a.Finish()
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := read(k, entry, nil, file); err != nil || !bytes.Equal(got, bytes.Repeat(want, pieces)) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			f, err := os.Open(s.Path(id, entry))
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for {
				head, _, err := readChunk(f, nil)
				if err != nil {
					return
				}
				once([nonceSize]byte(head[5:]))
			}
		})
	}
	wg.Wait()
	if len(nonces) <= workers*pieces {
		t.Errorf("%d nonces", len(nonces))
	}
}

func TestAlteredInlinePieceIsFound(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	k := key(t, s, id)
	sealed := r.Seal(nil, []byte("select 1"))
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 0x10
		if _, err := k.OpenSealed(b); err == nil {
			t.Errorf("byte %d altered: it opens", i)
		}
	}
	for i := range sealed {
		if _, err := k.OpenSealed(sealed[:i]); err == nil {
			t.Errorf("cut to %d: it opens", i)
		}
	}
	other, _ := start(t, s)
	if _, err := k.OpenSealed(other.Seal(nil, []byte("select 1"))); err == nil {
		t.Error("another session's piece opens")
	}
}

func TestOperationIsTheOneOnRecord(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	op := &custos.Operation{Class: "Query", Text: "select 1"}
	plain := op.AppendSealed(make([]byte, saltSize))
	sum := sha256.Sum256(plain)
	e := &custos.Entry{Submit: &custos.Submitted{Digest: hex.EncodeToString(sum[:]), Verbs: []string{"SELECT"}}}
	got, err := key(t, s, id).Operation(e, r.Seal(nil, plain))
	if err != nil || got.Text != "select 1" || got.Verbs[0] != "SELECT" {
		t.Fatalf("%+v, %v", got, err)
	}
	plain[0] ^= 1
	if _, err := key(t, s, id).Operation(e, r.Seal(nil, plain)); err == nil {
		t.Error("another operation passes for the one on record")
	}
}

func TestErase(t *testing.T) {
	s, dir := openStore(t)
	r, id := start(t, s)
	_, keepID := start(t, s)
	write(t, r, 1, noise(40<<10))
	secret, err := s.ExportKey(id)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Erase(id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Key(id); !errors.Is(err, ErrErased) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key of an erased session: %v", err)
	}
	key(t, s, keepID)
	if _, err := s.Start(id); err == nil {
		t.Error("an erased session was begun again")
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if strings.Contains(path, string(id)) && !strings.HasSuffix(path, ".erased") {
			t.Errorf("%s is left", path)
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, secret) {
			t.Errorf("%s holds the key", path)
		}
		return nil
	})
}

func TestMasterKey(t *testing.T) {
	dir := t.TempDir()
	recordings, path := filepath.Join(dir, "recordings"), filepath.Join(dir, "keys", "recording.key")
	open := func() (*Store, error) { return Open(recordings, path) }
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	_, id := start(t, s)
	if s, err = open(); err != nil {
		t.Fatal(err)
	}
	key(t, s, id)

	os.Chmod(path, 0o644)
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that all can read: %v", err)
	}
	os.Chmod(path, 0o600)
	os.WriteFile(path, noise(keySize), 0o600)
	if s, err = open(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Key(id); err == nil {
		t.Error("another master key opens the session's")
	}
	os.WriteFile(path, noise(5), 0o600)
	if _, err := open(); err == nil {
		t.Error("a cut master key was taken")
	}
	os.Remove(path)
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("no master key where recordings are: %v", err)
	}
}

// However a crash cuts an answer, what is left is cited and reads up to the
// cut.
func TestSalvage(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	k := key(t, s, id)
	write(t, r, 1, noise(40<<10), noise(70<<10))
	path := s.Path(id, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(whole); n += 1 + len(whole)/150 {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		var d *custos.Digest
		for range 2 {
			var err error
			if d, err = s.Salvage(id, 1); err != nil {
				t.Fatal(err)
			}
			if d == nil {
				if _, err := os.Stat(path); err == nil {
					t.Fatal("nothing is cited of a file that is there")
				}
				continue
			}
			if err := s.Check(id, 1, *d); err != nil {
				t.Fatal(err)
			}
		}
		if d == nil {
			continue
		}
		got, err := read(k, 1, nil, &custos.Digest{})
		if n < len(whole) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut to %d of %d: %d bytes, %v", n, len(whole), len(got), err)
		}
	}
	if d, err := s.Salvage(id, 2); d != nil || err != nil {
		t.Errorf("no answer: %v, %v", d, err)
	}
}

// What was altered is not torn: nothing is cut off it.
func TestSalvageCutsNothingThatWasAltered(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	write(t, r, 1, noise(40<<10), noise(70<<10), noise(70<<10))
	path := s.Path(id, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int{"length made huge": 0, "length made a little longer": 2, "flags": 4, "nonce": 7, "body": 1000} {
		b := bytes.Clone(whole)
		b[at] ^= 0x01
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := s.Salvage(id, 1)
		if err != nil || d == nil || d.Bytes != int64(len(whole)) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestOneKeyForASession(t *testing.T) {
	s, _ := openStore(t)
	r, id := start(t, s)
	sealed := r.Seal(nil, []byte("select 1"))
	if _, err := s.Start(id); err == nil {
		t.Fatal("a session was begun twice")
	}
	if _, err := key(t, s, id).OpenSealed(sealed); err != nil {
		t.Error(err)
	}
	if _, err := s.Key(custos.NewSessionID()); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrErased) {
		t.Errorf("the key of no session: %v", err)
	}
}

// A crash between the steps of Erase leaves a session that counts as erased,
// and that Erase finishes.
func TestEraseIsFinishedAfterACrash(t *testing.T) {
	for name, crash := range map[string]func(*Store, custos.SessionID) error{
		"marked": func(s *Store, id custos.SessionID) error { return os.WriteFile(s.erasedPath(id), nil, 0o600) },
		"overwritten": func(s *Store, id custos.SessionID) error {
			return errors.Join(os.WriteFile(s.erasedPath(id), nil, 0o600), overwrite(s.keyPath(id)))
		},
		"key gone": func(s *Store, id custos.SessionID) error {
			return errors.Join(os.WriteFile(s.erasedPath(id), nil, 0o600), os.Remove(s.keyPath(id)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := openStore(t)
			r, id := start(t, s)
			write(t, r, 1, noise(40<<10))
			if err := crash(s, id); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Key(id); !errors.Is(err, ErrErased) {
				t.Errorf("after the crash: %v", err)
			}
			if err := s.Erase(id); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(s.Path(id, 1)); err == nil {
				t.Error("the answer is left")
			}
		})
	}
}

func TestStartRefusesWhatIsNoSession(t *testing.T) {
	s, _ := openStore(t)
	if err := s.Erase(custos.NewSessionID()); !errors.Is(err, ErrUnknown) {
		t.Errorf("a session that never was, erased: %v", err)
	}
	for _, id := range []custos.SessionID{"", "x", "../../../../etc/passwd", "aaaaaaaaaaaaaaaaaaaaaaaaa/"} {
		if _, err := s.Start(id); err == nil {
			t.Errorf("%q was taken", id)
		}
		if err := s.Erase(id); err == nil {
			t.Errorf("%q was erased", id)
		}
	}
}

var updateVectors = flag.Bool("update", false, "make the test vector of docs/formats/recording.md anew")

// The vector that the format's document points to reads as the document says.
func TestVector(t *testing.T) {
	const dir = "../docs/formats/vectors/recording"
	const id = custos.SessionID("abcdefghijklmnopqrstuvwxya")
	type vector struct{ Session, Key, Sealed, Plain, Answer string }
	if *updateVectors {
		s, _ := openStore(t)
		r, err := s.Start(id)
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.ExportKey(id)
		if err != nil {
			t.Fatal(err)
		}
		v := vector{Session: string(id), Key: hex.EncodeToString(k), Plain: "select 1", Sealed: hex.EncodeToString(r.Seal(nil, []byte("select 1")))}
		answer := append(bytes.Repeat([]byte("row,"), 10<<10), noise(70<<10)...)
		write(t, r, 7, answer[:40<<10], answer[40<<10:])
		sum := sha256.Sum256(answer)
		v.Answer = hex.EncodeToString(sum[:])
		b, _ := json.MarshalIndent(v, "", "  ")
		file, err := os.ReadFile(s.Path(id, 7))
		if err = errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "vector.json"), append(b, '\n'), 0o644),
			os.WriteFile(filepath.Join(dir, string(id)+".7.rec"), file, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "vector.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	secret, _ := hex.DecodeString(v.Key)
	k, err := OpenWithKey(dir, custos.SessionID(v.Session), secret)
	if err != nil {
		t.Fatal(err)
	}
	sealed, _ := hex.DecodeString(v.Sealed)
	if plain, err := k.OpenSealed(sealed); err != nil || string(plain) != v.Plain {
		t.Errorf("%q, %v", plain, err)
	}
	answer, err := read(k, 7, nil, &custos.Digest{})
	if sum := sha256.Sum256(answer); err != nil || hex.EncodeToString(sum[:]) != v.Answer {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
}
