package git

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/mask"
)

// Bounds of what a person is shown of one push.
const (
	maxShownDiff    = 256 << 10 // bytes of all differences
	maxShownChanges = 500       // files whose differences are shown
	maxShownCommits = 200
	maxShownFiles   = 1000
)

// operation is the push as policy judges it and people read it. The last
// parameter binds it to all bytes of all objects that the push brings.
func (p *pushed) operation() *custos.Operation {
	o := &custos.Operation{Class: classPush, Verbs: []string{"PUSH"}, Writes: true}
	facts := &custos.Facts{Unknown: p.unknown, Attributes: map[string][]string{"repository": {p.repository}}}
	for _, r := range p.refs {
		o.Objects = append(o.Objects, p.repository+" "+r.ref)
	}
	for _, c := range p.commands {
		facts.Attributes["ref"] = append(facts.Attributes["ref"], c.ref)
	}
	facts.Effects = slices.Sorted(maps.Keys(p.effects))
	if files := slices.Sorted(maps.Keys(p.files)); len(files) > 0 {
		facts.Attributes["file"] = files
	}
	if authors := slices.Sorted(maps.Keys(p.authors)); len(authors) > 0 {
		facts.Attributes["author"] = authors
	}
	o.Facts = facts
	if len(o.Objects) > maxShownFiles {
		o.Objects = o.Objects[:maxShownFiles]
	}
	o.Text = p.text()
	if p.pack != nil {
		sum := p.brought.digest()
		o.Params = []custos.Param{{Value: []byte("objects sha256:" + hex.EncodeToString(sum[:]))}}
	}
	return o
}

// text is the push in words: what happens to each ref, by which commits, to
// which files, and the lines that differ.
func (p *pushed) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "push %s\n", p.repository)
	for _, r := range p.refs {
		fmt.Fprintf(&b, "%s %s..%s %s", r.ref, shown(r.old), shown(r.new), strings.Join(r.effects, " "))
		if len(r.news) > 0 {
			fmt.Fprintf(&b, ", %d new commits", len(r.news))
		}
		if r.why != "" {
			fmt.Fprintf(&b, " (%s)", r.why)
		}
		b.WriteByte('\n')
	}
	for _, o := range p.options {
		fmt.Fprintf(&b, "option %s\n", o)
	}
	p.notes(&b)
	p.log(&b)
	p.diff(&b)
	return b.String()
}

func shown(i id) string {
	if i.zero() {
		return "nothing"
	}
	return i.short()
}

// notes say what a person should see first.
func (p *pushed) notes(b *strings.Builder) {
	for _, u := range p.unknown {
		fmt.Fprintf(b, "! unknown: %s\n", u)
	}
	for n, f := range p.secrets {
		if n == maxShownFiles {
			break
		}
		fmt.Fprintf(b, "! %s\n", p.describe(&f))
	}
	if p.brought.more {
		fmt.Fprintf(b, "! more than %d values look like secrets\n", maxFound)
	}
	for _, a := range p.others {
		fmt.Fprintf(b, "! author %s\n", printable(a))
	}
	for _, path := range slices.Sorted(maps.Keys(p.files)) {
		if runsByItself(path) {
			fmt.Fprintf(b, "! changes %s\n", path)
		}
	}
	for _, i := range slices.SortedFunc(maps.Keys(p.brought.large), compareIDs) {
		fmt.Fprintf(b, "! %s has %d bytes\n", p.pathOf(i), p.brought.large[i])
	}
	for _, i := range slices.SortedFunc(maps.Keys(p.brought.opaque), compareIDs) {
		fmt.Fprintf(b, "! %s is %s, into which nobody can look\n", p.pathOf(i), p.brought.opaque[i])
	}
}

func compareIDs(a, b id) int { return bytes.Compare(a.sum[:], b.sum[:]) }

// describe says where a secret is, and never what it is.
func (p *pushed) describe(f *found) string {
	if f.in.zero() {
		return fmt.Sprintf("what looks like a secret (%s) in a name", f.kind)
	}
	if p.brought.commits[f.in] != nil {
		return fmt.Sprintf("what looks like a secret (%s) in the message of commit %s", f.kind, f.in.short())
	}
	if p.brought.tags[f.in] != nil {
		return fmt.Sprintf("what looks like a secret (%s) in the message of tag %s", f.kind, f.in.short())
	}
	return fmt.Sprintf("what looks like a secret (%s) in %s", f.kind, p.pathOf(f.in))
}

// pathOf names a file by where it stands, or by its id.
func (p *pushed) pathOf(i id) string {
	for n := range p.changes {
		if p.changes[n].new.id == i {
			return printable(p.changes[n].path)
		}
	}
	return "object " + i.short()
}

func (p *pushed) log(b *strings.Builder) {
	order := p.brought.order
	if len(order) > 0 {
		b.WriteByte('\n')
	}
	for n, i := range order {
		if n == maxShownCommits {
			fmt.Fprintf(b, "and %d more commits\n", len(order)-n)
			break
		}
		c := p.brought.commits[i]
		who := ""
		if len(c.authors) > 0 {
			who = c.names[0] + " <" + c.authors[0] + ">"
		}
		fmt.Fprintf(b, "commit %s %s: %s\n", i.short(), printable(who), p.hidden(printable(c.subject)))
	}
}

// diff shows what is different on each ref afterwards.
func (p *pushed) diff(b *strings.Builder) {
	for _, r := range p.refs {
		if r.tip.zero() || r.base.zero() && len(r.news) == 0 {
			continue
		}
		changes, err := p.between(r.base, r.tip)
		if err != nil {
			fmt.Fprintf(b, "\n%s: what differs cannot be shown: %v\n", r.ref, err)
			continue
		}
		if len(changes) > 0 && len(p.refs) > 1 {
			fmt.Fprintf(b, "\n%s\n", r.ref)
		}
		p.list(b, changes)
		for n := range changes[:min(len(changes), maxShownChanges)] {
			if b.Len() > maxShownDiff {
				fmt.Fprintf(b, "\nThe rest is not shown: it is in the pack that is recorded.\n")
				return
			}
			if err := p.show(b, &changes[n]); err != nil {
				fmt.Fprintf(b, "%s cannot be shown: %v\n", printable(changes[n].path), err)
			}
		}
	}
}

// between compares two commits, and has the files at hand that are shown.
func (p *pushed) between(old, new id) ([]change, error) {
	if err := p.need([]id{old, new}); err != nil {
		return nil, err
	}
	level, err := p.compareTips(old, new)
	if err != nil {
		return nil, err
	}
	var all []change
	if err := p.compare([]compared{level}, func(c *change) error {
		if all = append(all, *c); len(all) > maxFiles {
			return errBound
		}
		return nil
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b change) int { return strings.Compare(a.path, b.path) })
	var want []id
	for n := range all[:min(len(all), maxShownChanges)] {
		c := &all[n]
		if c.new.mode == modeSubmodule || c.old.mode == modeSubmodule || c.new.mode == 0 {
			continue
		}
		if o, err := p.object(c.new.id); err != nil || o != nil && o.size > maxShownFile {
			continue
		}
		want = append(want, c.new.id, c.old.id)
	}
	return all, p.need(want)
}

func (p *pushed) list(b *strings.Builder, changes []change) {
	b.WriteByte('\n')
	for n := range changes {
		if n == maxShownFiles {
			fmt.Fprintf(b, "and %d more files\n", len(changes)-n)
			break
		}
		c := &changes[n]
		how := "changed"
		switch {
		case c.old.mode == 0:
			how = "added"
		case c.new.mode == 0:
			how = "removed"
		case c.old.id == c.new.id:
			how = "mode changed"
		}
		fmt.Fprintf(b, "%s %s%s\n", how, p.hidden(printable(c.path)), special(c.new.mode))
	}
}

func special(mode uint32) string {
	switch mode {
	case modeLink:
		return " (link)"
	case modeSubmodule:
		return " (submodule)"
	case modeProgram:
		return " (program)"
	}
	return ""
}

// show appends the lines of one file that differ.
func (p *pushed) show(b *strings.Builder, c *change) error {
	if c.new.mode == 0 {
		return nil
	}
	old, err := p.text1(&c.old)
	if err != nil {
		return err
	}
	now, err := p.text1(&c.new)
	if err != nil {
		return err
	}
	if old == nil || now == nil {
		fmt.Fprintf(b, "\n%s: not shown as text\n", printable(c.path))
		return nil
	}
	var diff strings.Builder
	x, y := splitLines(old), splitLines(now)
	appendDiff(&diff, x, y, compareLines(x, y))
	text := diff.String()
	if room := maxShownDiff - b.Len(); len(text) > room && room >= 0 {
		text = strings.ToValidUTF8(text[:room], "") + "\n(cut)\n"
	}
	from := "a/" + c.path
	if c.old.mode == 0 {
		from = "/dev/null"
	}
	fmt.Fprintf(b, "\n--- %s\n+++ b/%s\n%s", printable(from), printable(c.path), p.hidden(text))
	return nil
}

// text1 is one side of a difference; nil: it is no text to show.
func (p *pushed) text1(e *treeEntry) ([]byte, error) {
	switch e.mode {
	case 0:
		return []byte{}, nil
	case modeSubmodule:
		return []byte("Subproject commit " + e.id.String() + "\n"), nil
	}
	o, err := p.object(e.id)
	if err != nil || o == nil || o.size > maxShownFile {
		return nil, err
	}
	if bytes.IndexByte(clip(o.mem, 8000), 0) >= 0 {
		return nil, nil
	}
	return bytes.ToValidUTF8(o.mem, []byte("\uFFFD")), nil
}

// hidden hides what looks like a secret: who looks at a push need not read it.
func (p *pushed) hidden(text string) string {
	if out, n := p.brought.masker.Append(nil, []byte(text)); n > 0 {
		return string(out)
	}
	return text
}

// printable replaces what a terminal would act on, or not show.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// newMasker finds the kinds of value that open something.
func newMasker() *mask.Masker {
	m, err := mask.New([32]byte{}, []mask.Rule{{Detect: []string{"secret"}, With: mask.Redact}})
	if err != nil {
		panic(err) // the kind is one of the package's own
	}
	return m
}
