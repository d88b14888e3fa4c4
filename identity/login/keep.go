package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/custos-gateway/custos/identity"
)

// renewBefore is how long before its end a token is replaced, so that what is
// begun with it does not end at once.
const renewBefore = time.Minute

// maxFile bounds the file of logins.
const maxFile = 4 << 20

// ErrNone is that no login is kept for a gateway.
var ErrNone = errors.New("you are not logged in; run: custos login")

// Login is what is kept of one login.
type Login struct {
	Discovery
	// Gateway is the URL of the gateway that the login is for. Empty: any.
	Gateway string `json:"gateway,omitempty"`
	// TokenFile is a workload's own token, read anew each time; everything
	// else but Gateway is then empty.
	TokenFile string `json:"token_file,omitempty"`
	// Bearer is the token that the gateway takes, and Expires its end.
	Bearer       string    `json:"bearer,omitempty"`
	Expires      time.Time `json:"expires,omitzero"`
	RefreshToken string    `json:"refresh_token,omitempty"`
}

// Store keeps logins in a folder.
type Store struct {
	// Dir holds the file token.json and its lock. It is made, mode 0700.
	Dir string
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// DefaultStore keeps logins in the user's configuration folder.
func DefaultStore() (*Store, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the folder of logins: %w; set HOME or XDG_CONFIG_HOME, or pass the token in CUSTOS_TOKEN", err)
	}
	return &Store{Dir: filepath.Join(dir, "custos")}, nil
}

// Put keeps a login, in place of the one for the same gateway, issuer and
// client, and makes it the first to be found.
func (s *Store) Put(l *Login) error {
	return s.locked(func(all []Login) ([]Login, error) {
		kept := []Login{*l}
		for _, o := range all {
			if o.Gateway != l.Gateway || o.Issuer != l.Issuer || o.ClientID != l.ClientID {
				kept = append(kept, o)
			}
		}
		return kept, nil
	})
}

// Bearer returns a token for the gateway that is good for a while yet,
// renewing it if need be. A login for another gateway is never used: its token
// is none of this one's business. An empty gateway means the newest login.
// client returns what talks to the issuer, and is called only if that is
// needed. The error is ErrNone where nobody logged in.
func (s *Store) Bearer(ctx context.Context, gateway string, client func() (*http.Client, error)) (string, error) {
	var token string
	err := s.locked(func(all []Login) ([]Login, error) {
		l := find(all, gateway)
		if l == nil {
			return nil, ErrNone
		}
		changed, err := l.renew(ctx, s.now(), client)
		token = l.Bearer
		if err != nil || !changed {
			return nil, err
		}
		return all, nil
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// find returns the login for the gateway, else one that is for any.
func find(all []Login, gateway string) *Login {
	var open *Login
	for i := range all {
		l := &all[i]
		if gateway == "" || l.Gateway != "" && sameOrigin(l.Gateway, gateway) {
			return l
		}
		if l.Gateway == "" && open == nil {
			open = l
		}
	}
	return open
}

// renew makes l.Bearer good, and reports whether that has to be kept.
func (l *Login) renew(ctx context.Context, now time.Time, client func() (*http.Client, error)) (changed bool, err error) {
	if l.TokenFile != "" {
		l.Bearer, err = ReadToken(l.TokenFile)
		return false, err
	}
	if now.Before(l.Expires.Add(-renewBefore)) {
		return false, nil
	}
	usable := now.Before(l.Expires)
	if l.RefreshToken == "" {
		if usable {
			return false, nil
		}
		return false, fmt.Errorf("your login at %s has expired; run: custos login", l.Issuer)
	}
	h, err := client()
	if err != nil {
		return false, err
	}
	switch err := l.refresh(ctx, h); {
	case err == nil:
		return true, nil
	case usable:
		return false, nil // the issuer may be back before the token ends
	default:
		return false, err
	}
}

// refresh gets new tokens for the refresh token.
func (l *Login) refresh(ctx context.Context, h *http.Client) error {
	c := &Client{Discovery: l.Discovery, HTTP: h, Out: io.Discard}
	ctx, e, err := c.discover(ctx)
	if err != nil {
		return err
	}
	t, err := e.config.TokenSource(oidc.ClientContext(ctx, h), &oauth2.Token{RefreshToken: l.RefreshToken}).Token()
	if err != nil {
		return fmt.Errorf("renew your login at %s: %w; run: custos login", l.Issuer, describe(err))
	}
	if t.RefreshToken != "" {
		l.RefreshToken = t.RefreshToken
	}
	return l.take(t)
}

// ReadToken reads a workload's own token from a file.
func ReadToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, identity.MaxToken+2))
	if err != nil {
		return "", fmt.Errorf("read token file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || len(token) > identity.MaxToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("read token file: %s does not hold one token of at most %d bytes and nothing else", file, identity.MaxToken)
	}
	return token, nil
}

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// locked runs change on what is kept, and keeps what it returns; nil changes
// nothing. The lock is held throughout, so that of two commands the second
// finds what the first renewed.
func (s *Store) locked(change func([]Login) ([]Login, error)) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("keep login: %w", err)
	}
	if err := private(s.Dir, 0o022, "700"); err != nil {
		return fmt.Errorf("keep login: %w", err)
	}
	unlock, err := lock(filepath.Join(s.Dir, "token.lock"))
	if err != nil {
		return fmt.Errorf("lock the logins: %w", err)
	}
	defer unlock()
	file := filepath.Join(s.Dir, "token.json")
	all, err := load(file)
	if err != nil {
		return fmt.Errorf("read logins: %w", err)
	}
	kept, err := change(all)
	if err != nil || kept == nil {
		return err
	}
	if err := save(file, kept); err != nil {
		return fmt.Errorf("keep login: %w", err)
	}
	return nil
}

// logins is the file.
type logins struct {
	Logins []Login `json:"logins"`
}

func load(file string) ([]Login, error) {
	err := private(file, 0o077, "600")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var l logins
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&l); err != nil {
		return nil, fmt.Errorf("%s is damaged (%w); remove it and run: custos login", file, err)
	}
	return l.Logins, nil
}

// save replaces the file. A crash before the rename leaves the old file and
// one of a random name, mode 0600, that nothing reads.
func save(file string, all []Login) error {
	b, err := json.MarshalIndent(logins{all}, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing of that name
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
