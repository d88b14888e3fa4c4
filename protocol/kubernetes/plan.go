package kubernetes

import (
	"bytes"
	"errors"
	"slices"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/mask"
)

// plan is what is hidden of one answer.
type plan struct {
	// secret stands for the values of Secrets. shown: a rule lets them be seen.
	secret hideValue
	shown  bool
	// find looks for kinds of value; nil: for none.
	find *mask.Masker
	// fields are hidden by their names.
	fields []field
}

// field is hidden by its name.
type field struct {
	patterns []string
	way      mask.Way
	key      *[32]byte
}

func (f *field) matches(name string) bool {
	return slices.ContainsFunc(f.patterns, func(p string) bool { return custos.MatchColumn(p, name) })
}

// newPlan is what rules hide of an answer to t. The values of Secrets are
// hidden where no rule says anything; where several rules do, whoever hides
// them decides.
func newPlan(t *target, masks []custos.Mask, key *[32]byte) (*plan, error) {
	p := &plan{secret: redactSecret}
	column := t.secretColumn()
	var rules []mask.Rule
	hidden := false
	for i := range masks {
		m := &masks[i]
		ofSecrets := slices.ContainsFunc(m.Columns, func(pattern string) bool { return custos.MatchColumn(pattern, column) })
		if m.With == custos.Clear {
			p.shown = p.shown || ofSecrets
			continue
		}
		way, err := mask.ParseWay(m.With)
		if err != nil {
			return nil, errors.New("hide answer: a rule hides in a way that is not known")
		}
		if ofSecrets {
			hidden = true
			p.secret = func(dst, plain []byte) []byte { return mask.Value(dst, plain, way, "", key) }
		}
		if len(m.Results) > 0 {
			p.fields = append(p.fields, field{m.Results, way, key})
		}
		if len(m.Detect) > 0 {
			rules = append(rules, mask.Rule{Detect: m.Detect, With: way})
		}
	}
	p.shown = p.shown && !hidden
	if len(rules) > 0 {
		m, err := mask.New(*key, rules)
		if err != nil {
			return nil, err
		}
		p.find = m
	}
	return p, nil
}

// lines hides in text, line by line: a value does not go over the end of one.
type lines struct {
	find   *mask.Masker
	held   []byte
	hidden int64
}

// maxLine bounds, in bytes, a line that is looked at whole: the kubelet cuts
// lines at 16 KiB.
const maxLine = 1 << 20

func (l *lines) Append(dst, b []byte) ([]byte, error) {
	l.held = append(l.held, b...)
	end := bytes.LastIndexByte(l.held, '\n') + 1
	if end == 0 && len(l.held) > maxLine {
		return dst, errTooLong
	}
	dst = l.search(dst, l.held[:end])
	l.held = append(l.held[:0], l.held[end:]...)
	return dst, nil
}

func (l *lines) search(dst, b []byte) []byte {
	before := len(dst)
	dst, n := l.find.Append(dst, b)
	if n == 0 {
		return append(dst[:before], b...)
	}
	l.hidden += int64(n)
	return dst
}

func (l *lines) End(dst []byte) ([]byte, error) {
	dst = l.search(dst, l.held)
	l.held = nil
	return dst, nil
}

func (l *lines) Hidden() int64 { return l.hidden }
