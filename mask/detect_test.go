package mask

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/masking.md's table anew")

// perKind and perClass are how many samples there are of each.
const perKind, perClass = 60, 100

// measured is how the set came out for a kind.
type measured struct{ found, missed, mislabelled, spurious int }

func measure(t *testing.T) (byKind [numKinds]measured, byClass map[string]int) {
	m := ofAll(t, Redact)
	for _, s := range labelled(1, perKind) {
		hits := m.Find(nil, []byte(s.text))
		how := &byKind[s.kind].missed
		at := strings.Index(s.text, s.value)
		for _, h := range hits {
			switch {
			case h.Start <= at && h.End >= at+len(s.value) && h.Kind == s.kind:
				how = &byKind[s.kind].found
			case h.Start <= at && h.End >= at+len(s.value):
				how = &byKind[s.kind].mislabelled
				byKind[h.Kind].spurious++
				t.Logf("%s taken for %s: %q", s.kind, h.Kind, s.text)
			default:
				byKind[h.Kind].spurious++
				t.Logf("%s in a text with %s: %q of %q", h.Kind, s.kind, s.text[h.Start:h.End], s.text)
			}
		}
		*how++
		if how == &byKind[s.kind].missed {
			t.Logf("%s missed: %q", s.kind, s.text)
		}
	}
	byClass = map[string]int{}
	for _, s := range unlabelled(1, perClass) {
		for _, h := range m.Find(nil, []byte(s.text)) {
			byKind[h.Kind].spurious++
			byClass[s.class]++
			t.Logf("%s, in %s: %q", h.Kind, s.class, s.text)
		}
	}
	return byKind, byClass
}

func TestPrecisionAndRecall(t *testing.T) {
	byKind, byClass := measure(t)
	var w bytes.Buffer
	fmt.Fprintf(&w, "| kind | values | found | as another kind | missed | recall | false hits | precision |\n|---|---|---|---|---|---|---|---|\n")
	var sum measured
	row := func(name string, r measured, values int) {
		hidden := r.found + r.mislabelled
		fmt.Fprintf(&w, "| %s | %d | %d | %d | %d | %.3f | %d | %.3f |\n", name, values, r.found, r.mislabelled, r.missed,
			float64(hidden)/float64(values), r.spurious, float64(r.found)/float64(max(1, r.found+r.spurious)))
	}
	for k := email; k < numKinds; k++ {
		r := byKind[k]
		row("`"+k.String()+"`", r, perKind)
		sum.found, sum.missed = sum.found+r.found, sum.missed+r.missed
		sum.mislabelled, sum.spurious = sum.mislabelled+r.mislabelled, sum.spurious+r.spurious
		if r.missed > 0 {
			t.Errorf("%s: %d of %d missed", k, r.missed, perKind)
		}
	}
	row("all", sum, perKind*int(numKinds-email))
	fmt.Fprintf(&w, "\n| what is none | texts | hits |\n|---|---|---|\n")
	wrong := 0
	for _, c := range negatives {
		fmt.Fprintf(&w, "| %s | %d | %d |\n", c.class, perClass, byClass[c.class])
		wrong += byClass[c.class]
	}
	if limit := perClass * len(negatives) / 50; wrong > limit {
		t.Errorf("%d hits in %d texts that hold none", wrong, perClass*len(negatives))
	}
	const file, begin, end = "../docs/masking.md", "<!-- measured -->\n", "<!-- /measured -->\n"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(doc), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	want := head + begin + w.String() + end + tail
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(doc) {
		t.Errorf("%s isn't what is measured: run go test ./mask -update", file)
	}
}
