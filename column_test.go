package custos

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMatchColumn(t *testing.T) {
	for _, test := range []struct {
		pattern, column string
		want            bool
	}{
		{"*.customers.email", "public.customers.email", true},
		{"*.customers.email", "crm.customers.email", true},
		{"*.customers.email", "customers.email", false},
		{"*.customers.email", "a.b.customers.email", false},
		{"public.customers.*", "public.customers.", true},
		{"public.*.e*l", "public.customers.email", true},
		{"public.*.e*l", "public.customers.emails", false},
		{"*.*.*_pii", "a.b.x_pii_pii", true},
		{"*", "a.b.c", false},
		{"", "", true},
		{"", "a", false},
		{"*.customers.email", "public.customers.Email", false},
	} {
		if got := MatchColumn(test.pattern, test.column); got != test.want {
			t.Errorf("%q on %q: %v", test.pattern, test.column, got)
		}
	}
}

// A regular expression that says the same agrees.
func TestMatchColumnAgainstRegexp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab.*]{0,8}`).Draw(t, "pattern")
		column := rapid.StringMatching(`[ab.]{0,10}`).Draw(t, "column")
		same := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^.]*`) + "$")
		if got, want := MatchColumn(pattern, column), same.MatchString(column); got != want {
			t.Errorf("%q on %q: %v, want %v", pattern, column, got, want)
		}
	})
}
