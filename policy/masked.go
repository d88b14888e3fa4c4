package policy

import (
	"slices"

	"github.com/custos-gateway/custos"
)

// maskedFacts are the columns of an operation that a mask hides.
type maskedFacts struct {
	columns, predicates, copied []string
}

var nothingMasked maskedFacts

// hidden finds which of the operation's columns masks hide.
func hidden(masks []custos.Mask, q *question) *maskedFacts {
	if masks = custos.Hiding(masks); len(masks) == 0 {
		return &nothingMasked
	}
	of := func(columns []string) []string {
		var out []string
		for _, column := range columns {
			if slices.ContainsFunc(masks, func(m custos.Mask) bool { return hides(&m, column, q.connection.Tags, q.facts.Tags[column]) }) {
				out = append(out, column)
			}
		}
		return out
	}
	return &maskedFacts{of(q.facts.Columns), of(q.facts.Predicates), of(q.facts.Copied)}
}

// hides reports whether m hides a stored column, by its name or by a tag: one
// that the connection gives it, or one of its own.
func hides(m *custos.Mask, column string, tags []custos.ColumnTag, own []string) bool {
	if slices.ContainsFunc(own, func(tag string) bool { return slices.Contains(m.Tags, tag) }) {
		return true
	}
	matches := func(pattern string) bool { return custos.MatchColumn(pattern, column) }
	if slices.ContainsFunc(m.Columns, matches) {
		return true
	}
	for i := range tags {
		if slices.Contains(m.Tags, tags[i].Tag) && slices.ContainsFunc(tags[i].Columns, matches) {
			return true
		}
	}
	return false
}

// maxSets bounds the sets of masks that are kept.
const maxSets = 1 << 12

// masks returns the masks of the rules in set, in the order of rules: the same
// slice for the same set, so that whoever masks can keep a plan for it.
func (p *Policy) masks(set maskingSet) []custos.Mask {
	p.mu.RLock()
	masks, known := p.sets[set]
	p.mu.RUnlock()
	if known {
		return masks
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if masks, known = p.sets[set]; known {
		return masks
	}
	for i := range p.rules {
		if r := &p.rules[i]; r.masking >= 0 && set.has(r.masking) {
			masks = append(masks, r.masks...)
		}
	}
	if len(p.sets) < maxSets {
		p.sets[set] = masks
	}
	return masks
}
