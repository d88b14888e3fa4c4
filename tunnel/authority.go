package tunnel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

// AuthorityOptions are what an Authority is made of. All are required.
type AuthorityOptions struct {
	// Dir holds the CA's certificate and key, and the list of agents.
	Dir string
	// Life is how long a certificate of an agent of that name lives, and
	// whether the name is one of the configuration's.
	Life func(name string) (time.Duration, bool)
	// Record puts an entry on record, durably.
	Record func(custos.EntryKind, custos.Note) error
	Now    func() time.Time
}

// Authority knows which agents there are: it gives one-time tokens, admits
// agents, and signs their certificates. It is safe for concurrent use.
type Authority struct {
	AuthorityOptions
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool

	mu    sync.Mutex
	known known
}

// known is the file of agents and unused tokens.
type known struct {
	Agents []Member `json:"agents"`
	Tokens []ticket `json:"tokens"`
}

// Member is one agent that has joined, by its certificate.
type Member struct {
	Name string `json:"name"`
	// ID tells the agents of one name apart: 80 random bits.
	ID     string    `json:"id"`
	Joined time.Time `json:"joined"`
	// By is how it joined: by whose one-time token, or as which workload.
	By string `json:"by"`
	// Expires is when its newest certificate ends.
	Expires time.Time `json:"expires"`
}

// ticket is a one-time token that nobody has used.
type ticket struct {
	SHA256  string    `json:"sha256"`
	Name    string    `json:"name"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires"`
}

// Bounds on the file of agents.
const (
	maxMembers = 1000 // of one name
	maxTokens  = 1000
	maxFile    = 4 << 20 // bytes
)

// Bounds on the life of a one-time token.
const (
	MinTokenLife = time.Minute
	MaxTokenLife = 24 * time.Hour
)

// clockSkew lets a clock that is behind accept a new certificate.
const clockSkew = 5 * time.Minute

// tokenPrefix tells a one-time token from an issuer's, and a scanner for lost
// secrets what it has found.
const tokenPrefix = "custos-join-"

// OpenAuthority takes the folder of an authority into use, or makes one: the
// key first, then the certificate, so that a certificate in place has its key.
func OpenAuthority(o AuthorityOptions) (*Authority, error) {
	a := &Authority{AuthorityOptions: o, pool: x509.NewCertPool()}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open agents' CA: %w", err)
	}
	if err := a.loadCA(); err != nil {
		return nil, fmt.Errorf("open agents' CA: %w", err)
	}
	a.pool.AddCert(a.ca)
	b, err := durable.ReadFile(durable.OS, a.file("agents.json"), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &a.known)
	}
	if err != nil {
		return nil, fmt.Errorf("read list of agents: %w: restore %s from a backup, or remove it and have the agents join again", err, a.file("agents.json"))
	}
	return a, nil
}

func (a *Authority) file(name string) string { return filepath.Join(a.Dir, name) }

func (a *Authority) loadCA() error {
	keyPEM, err := durable.ReadFile(durable.OS, a.file("ca.key"), maxCertificate)
	certPEM, err2 := durable.ReadFile(durable.OS, a.file("ca.pem"), maxCertificate)
	if errors.Is(err2, fs.ErrNotExist) && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		return a.makeCA()
	}
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("%w: restore it from a backup, or remove ca.pem, ca.key and agents.json and have the agents join again", err)
	}
	if a.key, err = parseKey(keyPEM); err == nil {
		a.ca, err = parseCertificate(certPEM)
	}
	if err == nil && !a.key.PublicKey.Equal(a.ca.PublicKey) {
		err = errors.New("ca.key is not the key of ca.pem")
	}
	if err != nil {
		return fmt.Errorf("%w: restore both from a backup, or remove them and agents.json, and have the agents join again", err)
	}
	return nil
}

func (a *Authority) makeCA() (err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	now := a.Now()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "custos agents " + now.UTC().Format(time.DateOnly)}, NotBefore: now.Add(-clockSkew), NotAfter: now.AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		return err
	}
	if a.ca, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	keyPEM, err := encodeKey(a.key)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(durable.OS, a.file("ca.key"), keyPEM, 0o600); err != nil {
		return err
	}
	return durable.WriteFile(durable.OS, a.file("ca.pem"), encodeCertificate(der), 0o600)
}

// change has f change the list, and puts the outcome in the file. A crash
// leaves the list as it was or as it is.
func (a *Authority) change(f func(*known) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.Now()
	next := known{Agents: slices.Clone(a.known.Agents), Tokens: slices.Clone(a.known.Tokens)}
	next.Agents = slices.DeleteFunc(next.Agents, func(m Member) bool { return !now.Before(m.Expires) })
	next.Tokens = slices.DeleteFunc(next.Tokens, func(t ticket) bool { return !now.Before(t.Expires) })
	if err := f(&next); err != nil {
		return err
	}
	b, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(durable.OS, a.file("agents.json"), b, 0o600); err != nil {
		return err
	}
	a.known = next
	return nil
}

// NewToken returns a token with which one agent may join under a name, within
// its life. That it was given, and by whom, is on record first.
func (a *Authority) NewToken(by, name string, life time.Duration) (string, time.Time, error) {
	if _, ok := a.Life(name); !ok {
		return "", time.Time{}, fmt.Errorf("make token: there is no agent %q: add it to agents in the gateway's configuration", name)
	}
	if life < MinTokenLife || life > MaxTokenLife {
		return "", time.Time{}, fmt.Errorf("make token: its life must be from %v to %v", MinTokenLife, MaxTokenLife)
	}
	token := tokenPrefix + rand.Text()
	t := ticket{SHA256: digest(token), Name: name, By: by, Expires: a.Now().Add(life)}
	err := a.change(func(k *known) error {
		if len(k.Tokens) >= maxTokens {
			return fmt.Errorf("make token: there are %d that nobody has used: wait until they end", maxTokens)
		}
		k.Tokens = append(k.Tokens, t)
		return a.Record(custos.EntryToken, custos.Note{By: by, Text: "one-time token for agent " + name, Digest: t.SHA256})
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return token, t.Expires, nil
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

var errToken = errors.New("join: this token is unknown, was used, or has ended: get another with custos agent token NAME")

// join admits an agent by a one-time token.
func (a *Authority) join(token, name string, request []byte) (Member, []byte, error) {
	key, err := parseRequest(request)
	if err != nil {
		return Member{}, nil, err
	}
	var m Member
	err = a.change(func(k *known) error {
		have := digest(token)
		i := slices.IndexFunc(k.Tokens, func(t ticket) bool {
			return subtle.ConstantTimeCompare([]byte(t.SHA256), []byte(have)) == 1
		})
		if i < 0 {
			return errToken
		}
		t := k.Tokens[i]
		if t.Name != name {
			return fmt.Errorf("join: this token is for another agent than %.64q: set name to the one that it was made for", name)
		}
		// The token is gone with the same write that adds the agent: a crash
		// leaves both or neither.
		k.Tokens = slices.Delete(k.Tokens, i, i+1)
		m, err = a.admit(k, name, "one-time token of "+t.By, key)
		return err
	})
	if err != nil {
		return Member{}, nil, err
	}
	return a.signed(m, key)
}

// joinAs admits an agent by who its workload is.
func (a *Authority) joinAs(who, name string, request []byte) (Member, []byte, error) {
	key, err := parseRequest(request)
	if err != nil {
		return Member{}, nil, err
	}
	var m Member
	err = a.change(func(k *known) error {
		m, err = a.admit(k, name, who, key)
		return err
	})
	if err != nil {
		return Member{}, nil, err
	}
	return a.signed(m, key)
}

func (a *Authority) signed(m Member, key *ecdsa.PublicKey) (Member, []byte, error) {
	cert, err := a.sign(m, key)
	return m, cert, err
}

// admit adds an agent to the list, with its record durable before it counts.
func (a *Authority) admit(k *known, name, by string, key *ecdsa.PublicKey) (Member, error) {
	life, ok := a.Life(name)
	if !ok {
		return Member{}, fmt.Errorf("join: there is no agent %.64q: add it to agents in the gateway's configuration", name)
	}
	count := 0
	for _, m := range k.Agents {
		if m.Name == name {
			count++
		}
	}
	if count >= maxMembers {
		return Member{}, fmt.Errorf("join: %d agents of this name have certificates: remove those that are gone with custos agent remove", count)
	}
	now := a.Now()
	m := Member{Name: name, ID: newID(), Joined: now, By: by, Expires: now.Add(life).Truncate(time.Second)}
	k.Agents = append(k.Agents, m)
	return m, a.Record(custos.EntryJoined, custos.Note{By: by, Text: "agent " + name + " joined as " + m.ID, Digest: keyDigest(key)})
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newID() string {
	var b [10]byte
	rand.Read(b[:])
	return idEncoding.EncodeToString(b[:])
}

func keyDigest(key *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic("encode public key: " + err.Error()) // it was decoded from one
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// renew gives an agent that is known, and speaks by a certificate in force,
// one for a new key.
func (a *Authority) renew(name, id string, request []byte) (Member, []byte, error) {
	key, err := parseRequest(request)
	if err != nil {
		return Member{}, nil, err
	}
	var m Member
	err = a.change(func(k *known) error {
		i := slices.IndexFunc(k.Agents, func(m Member) bool { return m.Name == name && m.ID == id })
		life, ok := a.Life(name)
		if i < 0 || !ok {
			return &refusal{codeUnknown, "this agent was removed"}
		}
		k.Agents[i].Expires = a.Now().Add(life).Truncate(time.Second)
		m = k.Agents[i]
		return nil
	})
	if err != nil {
		return Member{}, nil, err
	}
	return a.signed(m, key)
}

// parseRequest reads a certificate request (RFC 2986) for a key whose owner
// signed it. Nothing else of it counts.
func parseRequest(der []byte) (*ecdsa.PublicKey, error) {
	r, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("read certificate request: want an ECDSA key on P-256")
	}
	return key, nil
}

// sign issues m's certificate for a key.
func (a *Authority) sign(m Member, key *ecdsa.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: m.Name}, URIs: nameOf(m.Name, m.ID),
		NotBefore: a.Now().Add(-clockSkew), NotAfter: m.Expires, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}

// member returns the agent that a certificate is for, if it is still listed
// and its name configured.
func (a *Authority) member(name, id string) (Member, bool) {
	if _, ok := a.Life(name); !ok {
		return Member{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.known.Agents {
		if m.Name == name && m.ID == id {
			return m, a.Now().Before(m.Expires)
		}
	}
	return Member{}, false
}

// members returns all agents whose certificates are in force, and who are
// still to join.
func (a *Authority) members() []Member {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.Now()
	return slices.DeleteFunc(slices.Clone(a.known.Agents), func(m Member) bool { return !now.Before(m.Expires) })
}

// remove takes agents and unused tokens off the list, with its record durable
// first: those that match, or, where id is "", all of the name.
func (a *Authority) remove(by, name, id string) (removed []Member, err error) {
	err = a.change(func(k *known) error {
		k.Agents = slices.DeleteFunc(k.Agents, func(m Member) bool {
			gone := m.Name == name && (id == "" || m.ID == id)
			if gone {
				removed = append(removed, m)
			}
			return gone
		})
		tokens := len(k.Tokens)
		if id == "" {
			k.Tokens = slices.DeleteFunc(k.Tokens, func(t ticket) bool { return t.Name == name })
		}
		if len(removed) == 0 && tokens == len(k.Tokens) {
			return fmt.Errorf("remove agent: there is no %s: custos agent list shows them", strings.TrimSuffix(name+" "+id, " "))
		}
		ids := make([]string, len(removed))
		for i, m := range removed {
			ids[i] = m.ID
		}
		return a.Record(custos.EntryRemoved, custos.Note{By: by, Text: strings.TrimSpace("agent " + name + " removed: " + strings.Join(ids, " "))})
	})
	return removed, err
}

// forget takes those off the list whose name is not configured any more, so
// that a name that comes back does not bring them back.
func (a *Authority) forget() error {
	a.mu.Lock()
	gone := map[string]bool{}
	for _, m := range a.known.Agents {
		if _, ok := a.Life(m.Name); !ok {
			gone[m.Name] = true
		}
	}
	for _, t := range a.known.Tokens {
		if _, ok := a.Life(t.Name); !ok {
			gone[t.Name] = true
		}
	}
	a.mu.Unlock()
	var errs []error
	for name := range gone {
		_, err := a.remove("the configuration", name, "")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
