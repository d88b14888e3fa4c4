package git

import (
	"context"
	"fmt"
	"slices"
)

// source has the objects that a push is judged by: those of its pack, and, got
// as they are needed, those of the upstream that it builds on.
type source struct {
	ctx      context.Context
	upstream *upstream
	format   *format
	brought  *inspection
	pack     *pack // of the push; nil: it has none
	packs    []*pack
	trees    map[id][]treeEntry
	commits  map[id]*commit // of the upstream
	bytes    int64          // that were got
}

// keptTrees bounds how many trees are at hand.
const keptTrees = 100_000

func (s *source) close() {
	for _, p := range s.packs {
		p.Close()
	}
}

// object returns an object that is at hand; nil: it is not.
func (s *source) object(i id) (*content, error) {
	if s.pack != nil {
		if o, err := s.pack.object(i); o != nil || err != nil {
			return o, err
		}
	}
	for _, p := range slices.Backward(s.packs) {
		if o, err := p.object(i); o != nil || err != nil {
			return o, err
		}
	}
	return nil, nil
}

func (s *source) has(i id) bool {
	if s.pack != nil {
		if _, ok := s.pack.lookup(i); ok {
			return true
		}
	}
	return slices.ContainsFunc(s.packs, func(p *pack) bool { _, ok := p.lookup(i); return ok })
}

// need gets of the upstream, of ids, the objects that are not at hand, and
// without those that hang on them where the upstream can leave them out.
// Where it cannot, commits come with all of their files, and trees too.
func (s *source) need(ids []id) error {
	var want []id
	for _, i := range ids {
		if !i.zero() && !s.has(i) {
			want = append(want, i)
		}
	}
	slices.SortFunc(want, func(a, b id) int { return slices.Compare(a.sum[:], b.sum[:]) })
	want = slices.Compact(want)
	for some := range slices.Chunk(want, wantsAtOne) {
		if err := s.get(lookup{want: some, filter: "tree:0", shallow: true}); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) get(l lookup) error {
	p, err := s.upstream.get(s.ctx, l)
	if err != nil {
		return err
	}
	if s.bytes += p.spool.Size(); s.bytes > maxLookup {
		p.Close()
		return fmt.Errorf("get objects of the upstream: more than %d bytes: %w", maxLookup, errBound)
	}
	s.packs = append(s.packs, p)
	return nil
}

// tree returns a tree that is at hand. The zero id is that of an empty one.
func (s *source) tree(i id) ([]treeEntry, error) {
	if i.zero() {
		return nil, nil
	}
	if t, ok := s.trees[i]; ok {
		return t, nil
	}
	b, err := s.whole(i, kindTree, maxTree)
	if err != nil {
		return nil, err
	}
	t, err := s.format.parseTree(b)
	if err != nil {
		return nil, err
	}
	if s.trees == nil || len(s.trees) >= keptTrees {
		s.trees = map[id][]treeEntry{}
	}
	s.trees[i] = t
	return t, nil
}

func (s *source) whole(i id, k kind, limit int64) ([]byte, error) {
	o, err := s.object(i)
	if err != nil {
		return nil, err
	}
	switch {
	case o == nil:
		return nil, fmt.Errorf("find %s %s: neither the push nor the upstream has it: %w", k, i.short(), errUpstream)
	case o.kind != k:
		return nil, fmt.Errorf("find %s %s: it is a %s: %w", k, i.short(), o.kind, errObject)
	case o.size > limit:
		return nil, fmt.Errorf("find %s %s: it has %d bytes: %w", k, i.short(), o.size, errBound)
	}
	return o.head(int(o.size))
}

// commit returns a commit of the push, or one of the upstream that is at hand.
func (s *source) commit(i id) (*commit, error) {
	if c, ok := s.brought.commits[i]; ok {
		return c, nil
	}
	if c, ok := s.commits[i]; ok {
		return c, nil
	}
	b, err := s.whole(i, kindCommit, maxCommit)
	if err != nil {
		return nil, err
	}
	c, err := s.format.parseCommit(b)
	if err != nil {
		return nil, err
	}
	if s.commits == nil {
		s.commits = map[id]*commit{}
	}
	s.commits[i] = c
	return c, nil
}

// peel follows annotated tags to what they name.
func (s *source) peel(i id) (id, kind, error) {
	for range 16 {
		if g, ok := s.brought.tags[i]; ok {
			i = g.object
			continue
		}
		if _, ok := s.brought.commits[i]; ok {
			return i, kindCommit, nil
		}
		if err := s.need([]id{i}); err != nil {
			return i, 0, err
		}
		o, err := s.object(i)
		if err != nil || o == nil {
			return i, 0, fmt.Errorf("find %s: neither the push nor the upstream has it: %w", i.short(), errUpstream)
		}
		if o.kind != kindTag {
			return i, o.kind, nil
		}
		b, err := o.head(int(min(o.size, maxCommit)))
		if err != nil {
			return i, 0, err
		}
		g, err := s.format.parseTag(b)
		if err != nil {
			return i, 0, err
		}
		i = g.object
	}
	return i, 0, fmt.Errorf("find %s: tags of tags of tags: %w", i.short(), errBound)
}

// news returns the commits of the push that are reached from tips, and the
// commits that they build on, which the upstream has.
func (s *source) news(tips ...id) (news []id, onto []id) {
	seen := map[id]bool{}
	stack := slices.Clone(tips)
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[i] || i.zero() {
			continue
		}
		seen[i] = true
		c, ok := s.brought.commits[i]
		if !ok {
			onto = append(onto, i)
			continue
		}
		news = append(news, i)
		stack = append(stack, c.parents...)
	}
	return news, onto
}

// descends reports whether old is new or comes before it.
func (s *source) descends(new, old id) (bool, error) {
	_, onto := s.news(new)
	if slices.Contains(onto, old) {
		return true, nil
	}
	if _, pushed := s.brought.commits[old]; pushed {
		news, _ := s.news(new)
		if slices.Contains(news, old) {
			return true, nil
		}
	}
	if len(onto) == 0 {
		return false, nil
	}
	// What new builds on may have come after old.
	if err := s.get(lookup{want: onto, have: []id{old}, filter: "tree:0"}); err != nil {
		return false, err
	}
	return s.reaches(onto, old)
}

// reaches walks the history that is at hand.
func (s *source) reaches(from []id, to id) (bool, error) {
	seen := map[id]bool{}
	stack := slices.Clone(from)
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if i == to {
			return true, nil
		}
		if seen[i] || !s.has(i) && s.brought.commits[i] == nil {
			continue
		}
		seen[i] = true
		c, err := s.commit(i)
		if err != nil {
			return false, err
		}
		stack = append(stack, c.parents...)
	}
	return false, nil
}
