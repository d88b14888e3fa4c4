// Package server wires the rooms together: what is started in which order,
// what is listened on, and how it stops.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/approval/notify"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/mask"
	"github.com/custos-gateway/custos/tunnel"
)

// Protocol is one way in: a listener of its own, or a path of the HTTPS
// listener.
type Protocol struct {
	Name string
	// Address picks the protocol's address from the configuration; empty:
	// it is not listened on.
	Address func(*config.Config) string
	// New makes what serves a listener until its context ends.
	New func(Front) Service
	// Prefix is where the protocol stands on the HTTPS listener, such as
	// "/http/": what follows it is the connection's name, and then the
	// protocol's own.
	Prefix string
	// HTTP makes what serves Prefix until ctx ends. It gets requests with
	// their path as the client wrote it. If it has a method Wait, that returns
	// when its sessions are closed.
	HTTP func(ctx context.Context, f Front) http.Handler
	// Render shows recorded answers.
	Render custos.Renderer
	// Operation is what a statement's text is, as far as that is known without
	// a target; nil: the protocol has no such.
	Operation func(statement string) (*custos.Operation, error)
	// Client says how clients are pointed at a connection.
	Client func(custos.Reach) custos.Setup
}

// Service accepts callers on a listener until ctx ends. It returns when the
// last of them is gone.
type Service interface {
	Serve(ctx context.Context, l net.Listener) error
}

// Front is what a protocol's client side is made of.
type Front struct {
	Gate           *gate.Gate
	Dialer         gate.Dialer
	TLS            *tls.Config
	PreAuthTimeout time.Duration
	IdleTimeout    time.Duration
	// Rules reports whether there are rules in force.
	Rules func() bool
	// Link is where an approval is answered, by its id; "" of it: nowhere but on
	// the command line.
	Link func(id string) string
	// MaskKey keys the masks that keep equal values equal.
	MaskKey [32]byte
	// Temp is a folder of data_dir for what nobody needs after a crash. Nothing
	// lies there in the clear.
	Temp   string
	Logger *slog.Logger
}

// Options are what a Server is made of.
type Options struct {
	ConfigPath string
	Protocols  []Protocol
	Logger     *slog.Logger
	Now        func() time.Time
}

// checks is what a gateway's configuration is held against.
func (o *Options) checks() config.Options {
	c := Checks(o.Protocols)
	c.Managed = true
	return c
}

// Checks is what a configuration file by itself is held against.
func Checks(protocols []Protocol) config.Options {
	c := config.Options{Detectors: mask.Kinds()}
	for _, p := range protocols {
		c.Protocols = append(c.Protocols, p.Name)
		if p.HTTP != nil {
			c.Addressed = append(c.Addressed, p.Name)
		}
	}
	return c
}

// Server is a gateway that is ready to serve.
type Server struct {
	Options
	config   *config.Config
	inForce  *inForce
	house    *house
	verifier *identity.Verifier
	gate     *gate.Gate
	desk     *approval.Desk
	notifier *notify.Notifier
	agents   *tunnel.Hub
	dialer   gate.Dialer
	space    *space
	keeper   *keeper
	metrics  *metrics
	tls      *tls.Config
	web      http.Handler

	listeners []listener
	testers   map[string]Tester // by protocol

	changing sync.Mutex // the configuration in force
}

type listener struct {
	net.Listener
	protocol string // "": HTTPS
	serve    func(context.Context, net.Listener) error
}

// stopTimeout bounds how long sessions may take to end when the gateway stops.
const stopTimeout = 10 * time.Second

// Open takes everything into use, in an order in which each step stands on
// the one before: the data folder's lock, the keys, the ledger, the
// recordings, the index; then what a crash left open is closed, the
// configuration in force is put on record, and the addresses are taken. A
// crash in it leaves nothing that the next Open does not find and finish.
func Open(o Options) (*Server, error) {
	c, err := config.Load(o.ConfigPath, o.checks())
	if err != nil {
		return nil, err
	}
	for _, w := range c.Warnings {
		o.Logger.Warn(w.Error())
	}
	s := &Server{Options: o, config: c, inForce: &inForce{now: o.Now}, testers: map[string]Tester{}}
	r, err := s.newRules(c)
	if err != nil {
		return nil, err
	}
	s.inForce.Store(r)
	if s.house, err = openHouse(c, o.Logger, o.Now); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.house.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) start() error {
	c := s.config
	s.space = &space{dir: c.DataDir, floor: func(total uint64) (uint64, uint64) {
		free := s.inForce.Load().config.Limits.FreeSpace
		return free.Sessions.Of(total), free.Operations.Of(total)
	}}
	s.space.look()
	var err error
	if s.verifier, err = identity.New(identity.Options{Issuers: issuers(c), Now: s.Now, Logger: s.Logger}); err != nil {
		return err
	}
	s.verifier.SetSkills(skillsOf(c))
	if s.agents, err = s.newHub(); err != nil {
		return err
	}
	s.dialer = newDialer(s.agents)
	s.notifier = s.newNotifier()
	s.desk = approval.New(approval.Options{Ledger: s.house.ledger, Now: s.Now, Told: s.notifier.Tell, Life: time.Duration(c.Approvals.Life),
		Reviewers: func() []string { return s.inForce.Load().config.Roles.Reviewer }}, s.house.approvals)
	if s.gate, err = gate.New(gate.Config{
		Ledger: s.house.ledger, Recorder: recorder{s.house.recordings}, Identifier: callers{s.verifier, s.house.tickets},
		Policy: s.inForce, Vault: s.inForce, Dialer: s.dialer, Directory: s.inForce, Space: s.space,
		Logger: s.Logger, Now: s.Now, Sessions: c.Limits.Sessions, SessionsPerCaller: c.Limits.SessionsPerCaller,
		TokenGrace: time.Duration(c.Limits.TokenGrace), Approver: s.desk, Past: s.house.past, Hold: map[custos.Kind]time.Duration{
			custos.KindPerson: time.Duration(c.Approvals.Hold.Person), custos.KindSkill: time.Duration(c.Approvals.Hold.Skill),
			custos.KindCI: time.Duration(c.Approvals.Hold.CI), custos.KindWorkload: time.Duration(c.Approvals.Hold.Workload)},
	}); err != nil {
		return err
	}
	if s.keeper, err = newKeeper(s.house, s.inForce, s.house.holds); err != nil {
		return err
	}
	s.metrics = newMetrics(s)
	if s.tls, err = serverTLS(c, s.Now); err != nil {
		return err
	}
	if s.web, err = s.site(); err != nil {
		return err
	}
	if err := s.recordConfig(); err != nil {
		return err
	}
	if err := s.house.keep(&custos.Entry{Kind: custos.EntryStarted, Note: &custos.Note{Text: "custos serve"}}, nil); err != nil {
		return err
	}
	return s.listen()
}

// recordConfig puts the configuration in force on record, the file beside it.
func (s *Server) recordConfig() error {
	r := s.inForce.Load()
	return s.house.keep(&custos.Entry{Kind: custos.EntryConfig, Note: &custos.Note{Text: filepath.Base(s.ConfigPath), Digest: r.digest}}, r.config.Raw)
}

func issuers(c *config.Config) []identity.Issuer {
	var all []identity.Issuer
	for _, i := range c.Issuers {
		issuer := identity.Issuer{
			URL: i.URL, Audiences: []string{i.Audience}, AuthorizedParties: i.AuthorizedParties, Require: i.Require,
			GroupsClaim: i.GroupsClaim, GroupsPrefix: i.GroupsPrefix, Groups: i.Groups,
			Kind: custos.Kind(i.Kind), KindClaim: i.KindClaim, ActorIssuers: i.ActorIssuers, Algorithms: i.Algorithms,
			DiscoveryURL: i.DiscoveryURL, JWKSURL: i.JWKSURL, CAFile: i.CAFile, TokenFile: i.TokenFile,
		}
		if i.NameClaim != "" {
			issuer.NameClaims = []string{i.NameClaim, "name", "email"}
		}
		for value, kind := range i.Kinds {
			if issuer.Kinds == nil {
				issuer.Kinds = map[string]custos.Kind{}
			}
			issuer.Kinds[value] = custos.Kind(kind)
		}
		all = append(all, issuer)
	}
	return all
}

// listen takes every configured address.
func (s *Server) listen() error {
	take := func(protocol, address string, serve func(context.Context, net.Listener) error) error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen: %w; another gateway may be running, or choose another address in listen", err)
		}
		s.listeners = append(s.listeners, listener{l, protocol, serve})
		return nil
	}
	for _, p := range s.Protocols {
		if p.New == nil || p.Address(s.config) == "" {
			continue
		}
		service := p.New(s.front(p.Name))
		if t, ok := service.(Tester); ok {
			s.testers[p.Name] = t
		}
		if err := take(p.Name, p.Address(s.config), service.Serve); err != nil {
			return err
		}
	}
	if s.config.Listen.HTTPS != "" {
		return take("", s.config.Listen.HTTPS, s.serveHTTPS)
	}
	return nil
}

func (s *Server) front(protocol string) Front {
	limits := s.config.Limits
	return Front{Gate: s.gate, Dialer: s.dialer, TLS: s.tls, Logger: s.Logger.With("protocol", protocol),
		PreAuthTimeout: time.Duration(limits.PreAuthTimeout), IdleTimeout: time.Duration(limits.IdleTimeout), MaskKey: s.house.recordings.MaskKey(), Link: s.link, Temp: s.house.temp(),
		Rules: func() bool { return len(s.inForce.Load().config.Rules) > 0 }}
}

// paths sends a request to the protocol whose prefix its path has, and every
// other to the console and the API. The path is looked at as the client wrote it: cleaning it
// is for whoever judges it.
// What it returns besides waits until the sessions of all of them are closed.
func (s *Server) paths(ctx context.Context) (h http.Handler, wait func()) {
	type path struct {
		prefix string
		http.Handler
	}
	var all []path
	wait = func() {
		for _, p := range all {
			if w, ok := p.Handler.(interface{ Wait() }); ok {
				w.Wait()
			}
		}
	}
	for _, p := range s.Protocols {
		if p.HTTP != nil {
			handler := p.HTTP(ctx, s.front(p.Name))
			if t, ok := handler.(Tester); ok {
				s.testers[p.Name] = t
			}
			all = append(all, path{p.Prefix, handler})
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == tunnel.JoinPath {
			s.agents.ServeHTTP(w, r)
			return
		}
		for _, p := range all {
			if strings.HasPrefix(r.URL.EscapedPath(), p.prefix) {
				p.ServeHTTP(w, r)
				return
			}
		}
		s.web.ServeHTTP(w, r)
	}), wait
}

// Addresses returns what is listened on, in the order of the table of
// protocols, HTTPS last.
func (s *Server) Addresses() []net.Addr {
	var all []net.Addr
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

// Serve serves until ctx ends or a listener fails, then stops in order: no new
// callers, the sessions' ends on record, a last entry, a last checkpoint.
func (s *Server) Serve(ctx context.Context) error {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	for _, l := range s.listeners {
		group.Go(func() error {
			defer cancel()
			if err := l.serve(work, l.Listener); err != nil && work.Err() == nil {
				return fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	group.Go(func() error { return s.house.follow(work, s.metrics.entry) })
	group.Go(func() error { s.tend(work); return nil })
	group.Go(func() error { return s.desk.Run(work) })
	group.Go(func() error { s.notifier.Run(work); return nil })
	group.Go(func() error { s.keeper.run(work); return nil })
	group.Go(func() error { s.tendVault(work); return nil })
	<-work.Done()
	s.gate.Shutdown()
	s.closeAgents()
	err := wait(&group, stopTimeout)
	stopped := s.house.keep(&custos.Entry{Kind: custos.EntryStopped}, nil)
	return errors.Join(err, stopped, s.house.Close())
}

func wait(group *errgroup.Group, timeout time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(timeout):
		return errors.New("stop: some sessions did not end in time; the next start closes them")
	}
}

// Close gives up a server that was opened and is not to serve.
func (s *Server) Close() error {
	for _, l := range s.listeners {
		l.Close()
	}
	return s.house.Close()
}

// tend looks after the disk and the configuration file until ctx ends.
func (s *Server) tend(ctx context.Context) {
	disk := time.NewTicker(time.Second)
	defer disk.Stop()
	file := time.NewTicker(2 * time.Second)
	defer file.Stop()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	go config.Watch(ctx, s.ConfigPath, s.config, file.C, notify)
	hangup := onHangup(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-disk.C:
			s.space.look()
		case <-changed:
			s.reload()
		case <-hangup:
			s.reload()
		}
	}
}

// reload takes the changed file into force, or keeps what is in force and says
// why.
func (s *Server) reload() {
	s.changing.Lock()
	defer s.changing.Unlock()
	c, err := config.Load(s.ConfigPath, s.checks())
	if err == nil {
		err = s.adopt(c, "", filepath.Base(s.ConfigPath), func() error { return nil })
	}
	if err != nil {
		s.Logger.Error("reload configuration: the old one stays in force", "cause", err)
	}
}

// adopt takes a configuration into force, with what it is and by whom on
// record before it is kept, and judges anything. The caller holds changing.
func (s *Server) adopt(c *config.Config, by, what string, keep func() error) error {
	before := s.inForce.Load()
	next, err := s.newRules(c)
	if err != nil {
		return err
	}
	if next.digest == before.digest {
		return nil
	}
	if c.DataDir != before.config.DataDir || c.Listen != before.config.Listen {
		s.Logger.Warn("reload configuration: listen and data_dir take effect at the next start")
	}
	for _, i := range issuers(c) {
		if err := i.Validate(); err != nil {
			return err
		}
	}
	if err := s.house.keep(&custos.Entry{Kind: custos.EntryConfig, Note: &custos.Note{By: by, Text: what, Digest: next.digest}}, c.Raw); err != nil {
		return err
	}
	if err := keep(); err != nil {
		return err
	}
	if err := s.verifier.Reload(issuers(c)); err != nil {
		s.Logger.Error("reload configuration: the issuers of the old one stay in force", "cause", err)
	}
	s.verifier.SetSkills(skillsOf(c))
	s.inForce.Store(next)
	if err := s.agents.Reload(); err != nil {
		s.Logger.Error("reload configuration: agents that were taken out of it", "cause", err)
	}
	s.space.look() // the floors may be others now
	s.Logger.Info("configuration reloaded", "version", next.digest[:12])
	return nil
}

func (s *Server) serveHTTPS(ctx context.Context, l net.Listener) error {
	handler, wait := s.paths(ctx)
	web := &http.Server{
		Handler:           handler,
		TLSConfig:         s.tls,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	s.agents.Attach(web)
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.Background(), stopTimeout/2)
		defer cancel()
		if web.Shutdown(late) != nil {
			web.Close()
		}
	})
	defer stop()
	if err := web.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	wait()
	return nil
}

// makeDir makes a folder that only its owner may enter, or refuses one that
// others may.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at data folder: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("open data folder %s: others may enter it (mode %04o); run: chmod 700 %s", dir, st.Mode().Perm(), dir)
	}
	return nil
}
