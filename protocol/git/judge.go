package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/mask"
)

// Bounds of what is said of one push.
const (
	maxFiles  = 500_000 // paths that rules are told of
	maxOldies = 2_000   // files of before that are looked through for a secret
)

// pushed is a push as it was judged.
type pushed struct {
	*pushRequest
	*source
	repository string
	caller     *custos.Principal
	op         *custos.Operation
	refs       []refChange
	changes    []change // of its commits, by path
	effects    map[string]bool
	files      map[string]bool
	authors    map[string]bool
	secrets    []found // that it adds
	unknown    []string
	others     []string // the authors that are not the caller
}

// refChange is what a push does to one ref.
type refChange struct {
	command
	effects []string
	news    []id   // the commits that it brings
	base    id     // the commit that it is compared with; zero: none
	tip     id     // the commit that it is afterwards; zero: none
	why     string // it is reserved
}

// judgement is what judging needs besides the push itself.
type judgement struct {
	upstream   *upstream
	repository string
	caller     *custos.Principal
	masker     *mask.Masker
	limits     *Limits
	dir        string
}

// judge reads a push to its end, all of which then lies in spools, and says
// what it does. body begins behind the commands. An error that is not of the
// upstream's is the push's own: nobody may push such a thing.
func (j *judgement) judge(ctx context.Context, req *pushRequest, body io.Reader) (*pushed, error) {
	p := &pushed{pushRequest: req, repository: j.repository, caller: j.caller, effects: map[string]bool{}, files: map[string]bool{}, authors: map[string]bool{},
		source: &source{ctx: ctx, upstream: j.upstream, format: req.format, brought: newInspection(req.format, j.masker)}}
	if err := p.receive(ctx, j, body); err != nil {
		p.close()
		return nil, err
	}
	if err := p.consider(); err != nil {
		p.close()
		return nil, err
	}
	p.op = p.operation()
	return p, nil
}

func (p *pushed) close() {
	p.source.close()
	if p.pack != nil {
		p.pack.Close()
	}
}

// receive reads the pack, and what is behind it, which is nothing.
func (p *pushed) receive(ctx context.Context, j *judgement, body io.Reader) (err error) {
	if p.carriesPack() {
		if p.pack, body, err = readPack(ctx, body, p.pushRequest.format, j.dir, j.limits, p.brought.visit); err != nil {
			return err
		}
	}
	var one [1]byte
	if n, err := io.ReadFull(body, one[:]); n > 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("read push: something is behind it: %w", errRequest)
	}
	if p.pack == nil {
		return nil
	}
	err = p.pack.resolve(ctx, func(ctx context.Context, ids []id) (*pack, error) {
		return j.upstream.get(ctx, lookup{want: ids, filter: "tree:0"})
	})
	if errors.Is(err, errUpstream) {
		return fmt.Errorf("%w; push again with --no-thin: %w", err, errPack)
	}
	return err
}

// consider says what the push does. What the upstream does not tell is unknown,
// and rules say what becomes of it.
func (p *pushed) consider() error {
	if what := p.brought.trick; what != "" {
		return fmt.Errorf("read tree: %s: %w", what, errObject)
	}
	steps := []func() error{p.considerRefs, p.considerFiles, p.considerSecrets}
	for _, step := range steps {
		if err := step(); errors.Is(err, errUpstream) || errors.Is(err, errBound) {
			p.note("unknown")
			p.unknown = append(p.unknown, err.Error())
		} else if err != nil {
			return err
		}
	}
	p.considerCommits()
	return nil
}

func (p *pushed) note(effect string) { p.effects[effect] = true }

// errStale is the cause where a ref is not what the client took it for.
var errStale = errors.New("the ref is something else at the upstream")

func (p *pushed) considerRefs() error {
	refs, head, err := p.upstream.refs(p.ctx)
	if err != nil {
		return err
	}
	if p.upstream.format != p.pushRequest.format {
		return fmt.Errorf("read push: its ids are not of the upstream's format: %w", errRequest)
	}
	now := map[string]id{}
	names := newRefNames()
	for _, r := range refs {
		now[r.name] = r.id
		names.add(r.name)
	}
	for _, c := range p.commands {
		if now[c.ref].sum != c.old.sum {
			return fmt.Errorf("push %s: %w", c.ref, errStale)
		}
		r := refChange{command: c}
		if err := p.considerRef(&r, head, names); err != nil {
			return err
		}
		if c.creates() {
			names.add(c.ref)
		}
		for _, e := range r.effects {
			p.note(e)
		}
		p.refs = append(p.refs, r)
	}
	return nil
}

func (p *pushed) considerRef(r *refChange, head string, names *refNames) error {
	does := func(effect string) { r.effects = append(r.effects, effect) }
	protected := protectedRef(r.ref, head)
	if protected {
		does("ref.protected")
	}
	if !ordinary(r.ref) {
		does("ref.reserved")
		r.why = "refs of its kind are not for pushing"
	}
	switch {
	case r.deletes():
		does("ref.delete")
		if protected {
			does("destroy")
		}
		return nil
	case r.creates():
		does("ref.create")
		if why := names.reserved(r.ref); why != "" && r.why == "" {
			does("ref.reserved")
			r.why = why
		}
	}
	tip, k, err := p.peel(r.new)
	if err != nil {
		return err
	}
	if strings.HasPrefix(r.ref, "refs/heads/") && (k != kindCommit || tip != r.new) {
		return fmt.Errorf("push %s: a branch of what is no commit: %w", r.ref, errObject)
	}
	if k != kindCommit {
		if !r.creates() {
			does("ref.force")
		}
		return nil
	}
	var onto []id
	r.tip = tip
	r.news, onto = p.news(tip)
	if r.creates() {
		r.base = p.mainline(tip)
		return nil
	}
	r.base = r.old
	forward := false
	if !strings.HasPrefix(r.ref, "refs/tags/") {
		if forward, err = p.descends(tip, r.old); err != nil {
			return err
		}
	}
	if forward {
		does("ref.forward")
	} else {
		does("ref.force")
		if protected && len(onto) == 0 {
			does("destroy")
		}
	}
	return nil
}

// mainline is the commit that a new branch goes off from: the first on the way
// of first parents that the push does not bring.
func (p *pushed) mainline(tip id) id {
	for range len(p.brought.order) {
		c, ok := p.brought.commits[tip]
		if !ok {
			break
		}
		if len(c.parents) == 0 {
			return id{}
		}
		tip = c.parents[0]
	}
	if p.brought.commits[tip] != nil {
		return id{}
	}
	return tip
}

// considerFiles finds what the push's commits change, and what changes on
// branches that others build on.
func (p *pushed) considerFiles() error {
	var onto []id
	for _, i := range p.brought.order {
		onto = append(onto, p.onto(i)...)
	}
	for _, r := range p.refs {
		if !r.creates() && !r.deletes() && slices.Contains(r.effects, "ref.protected") && !r.tip.zero() {
			onto = append(onto, r.old, r.tip)
		}
	}
	if err := p.need(onto); err != nil {
		return err
	}
	var level []compared
	for _, i := range p.brought.order {
		c, err := p.compareCommit(i)
		if err != nil {
			return err
		}
		level = append(level, c)
	}
	for _, r := range p.refs {
		if r.creates() || r.deletes() || !slices.Contains(r.effects, "ref.protected") || r.tip.zero() {
			continue
		}
		c, err := p.compareTips(r.old, r.tip)
		if err != nil {
			return err
		}
		level = append(level, c)
	}
	if err := p.compare(level, p.addChange); err != nil {
		return err
	}
	return p.considerContents()
}

// onto returns the parents of a commit that the push does not bring.
func (p *pushed) onto(i id) []id {
	return slices.DeleteFunc(slices.Clone(p.brought.commits[i].parents), func(i id) bool { return p.brought.commits[i] != nil })
}

func (p *pushed) compareCommit(i id) (compared, error) {
	c := p.brought.commits[i]
	d := compared{new: c.tree}
	for _, parent := range c.parents {
		before, err := p.commit(parent)
		if err != nil {
			return d, err
		}
		d.olds = append(d.olds, before.tree)
	}
	return d, nil
}

func (p *pushed) compareTips(old, new id) (compared, error) {
	d := compared{olds: []id{{}}}
	c, err := p.commit(new)
	if err != nil {
		return d, err
	}
	d.new = c.tree
	if !old.zero() {
		if c, err = p.commit(old); err != nil {
			return d, err
		}
		d.olds[0] = c.tree
	}
	return d, nil
}

func (p *pushed) addChange(c *change) error {
	p.changes = append(p.changes, *c)
	if !p.files[c.path] {
		if len(p.files) == maxFiles {
			return fmt.Errorf("compare trees: more than %d files: %w", maxFiles, errBound)
		}
		p.files[c.path] = true
		if runsByItself(c.path) {
			p.note("workflow")
		}
	}
	return nil
}

// considerContents reads what the links and lists of submodules hold that the
// push puts in.
func (p *pushed) considerContents() error {
	var want []id
	for i := range p.changes {
		if c := &p.changes[i]; c.new.mode == modeLink || c.new.mode != 0 && c.new.mode != modeSubmodule && isModules(base(c.path)) {
			want = append(want, c.new.id)
		}
	}
	if err := p.need(want); err != nil {
		return err
	}
	for i := range p.changes {
		c := &p.changes[i]
		link := c.new.mode == modeLink
		if !link && (c.new.mode == 0 || c.new.mode == modeSubmodule || !isModules(base(c.path))) {
			continue
		}
		b, err := p.whole(c.new.id, kindBlob, maxCommit)
		if err != nil {
			return err
		}
		if link && leaves(c.path, string(b)) {
			p.note("escape")
		}
		if !link {
			if what := moduleTrick(string(b)); what != "" {
				return fmt.Errorf("read %s: %s: %w", c.path, what, errObject)
			}
		}
	}
	return nil
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// considerSecrets tells what the push adds from what stood there before.
func (p *pushed) considerSecrets() error {
	in := p.brought
	for path := range p.files {
		in.look(id{}, []byte(path))
	}
	for _, c := range p.commands {
		in.look(id{}, []byte(c.ref))
	}
	for _, o := range p.options {
		in.look(id{}, []byte(o))
	}
	if in.more {
		p.note("secret.added")
	}
	if len(in.secrets) == 0 {
		return nil
	}
	old, err := p.before()
	p.secrets = slices.DeleteFunc(slices.Clone(in.secrets), func(f found) bool {
		return slices.ContainsFunc(old, func(c *content) bool { return bytes.Contains(c.mem, []byte(f.value)) })
	})
	if len(p.secrets) > 0 {
		p.note("secret.added")
	}
	return err
}

// before returns the files as they were that the push changes or takes away,
// those that are held in memory.
func (p *pushed) before() ([]*content, error) {
	var ids []id
	for i := range p.changes {
		if old := &p.changes[i].old; old.mode != 0 && old.mode != modeSubmodule && len(ids) < maxOldies {
			ids = append(ids, old.id)
		}
	}
	if err := p.need(ids); err != nil {
		return nil, err
	}
	var all []*content
	for _, i := range ids {
		if _, brought := p.pack.lookup(i); brought {
			continue
		}
		o, err := p.object(i)
		if err != nil {
			return all, err
		}
		if o != nil && o.mem != nil {
			all = append(all, o)
		}
	}
	return all, nil
}

// considerCommits tells who made the commits.
func (p *pushed) considerCommits() {
	in := p.brought
	for _, i := range in.order {
		c := in.commits[i]
		if !c.signed {
			p.note("unsigned")
		}
		for n, address := range c.authors {
			if p.authors[address] {
				continue
			}
			p.authors[address] = true
			if !isCaller(p.caller, address, c.names[n]) {
				p.note("author")
				p.others = append(p.others, address)
			}
		}
	}
	if len(in.large) > 0 {
		p.note("large")
	}
	if len(in.opaque) > 0 {
		p.note("opaque")
	}
	if len(p.options) > 0 {
		p.note("change")
	}
}

// isCaller reports whether an author is the caller, or who the caller acts for,
// as far as a token tells: by the subject or name, or by the address before
// its @.
func isCaller(caller *custos.Principal, address, name string) bool {
	address = strings.ToLower(strings.TrimSpace(address))
	local, _, _ := strings.Cut(address, "@")
	for c := caller; c != nil; c = c.OnBehalfOf {
		for _, known := range []string{c.Subject, c.Name} {
			known = strings.ToLower(known)
			_, host, _ := strings.Cut(known, "@")
			switch {
			case known == "":
			case address == known:
				return true
			case host == "" && (local == known || strings.ToLower(strings.TrimSpace(name)) == known):
				// A known address stands for one person; a name may be in front of any host.
				return true
			}
		}
	}
	return false
}
