package git

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// change is a path that differs.
type change struct {
	path     string
	old, new treeEntry // zero: it is not there
}

// maxCompared bounds how many pairs of folders are compared for one push.
const maxCompared = 20_000_000

// compared is a folder to compare: as it is, and as it was in each parent. The
// zero id is that of a folder that is not there.
type compared struct {
	path string
	new  id
	olds []id
}

// compare calls each with what differs between folders and all of what they
// were before, as git shows a merge: what is as in one parent was made there.
// It goes down level by level, so that the upstream is asked once for each.
func (s *source) compare(level []compared, each func(*change) error) error {
	for count := 0; len(level) > 0; {
		if count += len(level); count > maxCompared {
			return fmt.Errorf("compare trees: more than %d folders: %w", maxCompared, errBound)
		}
		var want []id
		for i := range level {
			want = append(append(want, level[i].new), level[i].olds...)
		}
		if err := s.need(want); err != nil {
			return err
		}
		var next []compared
		seen := map[string]bool{}
		for i := range level {
			below, err := s.compareOne(&level[i], each)
			if err != nil {
				return err
			}
			for _, c := range below {
				// Commits in a row have the same folders in common.
				var key strings.Builder
				key.WriteString(c.path)
				for _, i := range append(c.olds, c.new) {
					key.Write(i.sum[:])
				}
				if !seen[key.String()] {
					seen[key.String()] = true
					next = append(next, c)
				}
			}
		}
		level = next
	}
	return nil
}

func (s *source) compareOne(c *compared, each func(*change) error) (below []compared, err error) {
	tree, err := s.tree(c.new)
	if err != nil {
		return nil, err
	}
	olds := make([][]treeEntry, len(c.olds))
	for i, old := range c.olds {
		if olds[i], err = s.tree(old); err != nil {
			return nil, err
		}
	}
	names := map[string]treeEntry{}
	for _, e := range tree {
		names[e.name] = e
	}
	was := make([]map[string]treeEntry, len(olds))
	for i, old := range olds {
		was[i] = make(map[string]treeEntry, len(old))
		for _, e := range old {
			was[i][e.name] = e
			if _, ok := names[e.name]; !ok {
				names[e.name] = treeEntry{}
			}
		}
	}
	before := make([]treeEntry, len(olds))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		now := names[name]
		same := false
		for i := range was {
			before[i] = was[i][name]
			same = same || before[i].id == now.id && before[i].mode == now.mode
		}
		if same {
			continue
		}
		path := name
		if c.path != "" {
			path = c.path + "/" + name
		}
		if now.dir() || slices.ContainsFunc(before, func(e treeEntry) bool { return e.dir() }) {
			d := compared{path: path}
			if now.dir() {
				d.new = now.id
			}
			for _, e := range before {
				if !e.dir() {
					e.id = id{}
				}
				d.olds = append(d.olds, e.id)
			}
			below = append(below, d)
		}
		x := change{path: path, new: now}
		if len(before) > 0 {
			x.old = before[0]
		}
		if x.new.dir() {
			x.new = treeEntry{}
		}
		if x.old.dir() {
			x.old = treeEntry{}
		}
		if x.new.mode == 0 && x.old.mode == 0 {
			continue
		}
		if err := each(&x); err != nil {
			return nil, err
		}
	}
	return below, nil
}
