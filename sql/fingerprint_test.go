package sql

import "testing"

func TestFingerprint(t *testing.T) {
	of := func(text string) string {
		got, err := postgres.Parse(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Facts.Fingerprint
	}
	for _, same := range [][]string{
		{"select * from t where a = 1", "SELECT *  FROM t /* x */ WHERE a=22", "select * from t where a = 'x'", "select * from t where a = $1", "select * from t where a = -1.5", `select * from t where a = E'\x41'`},
		{"select 1 from t where a in (1)", "select 2 from t where a in (1, 2, 3)"},
		{"insert into t values (1, 'a')", "insert into t values (2, 'b'), (3, 'c')"},
		{"select a, b from t", `select "a", "b" from "t"`},
	} {
		for _, text := range same[1:] {
			if of(text) != of(same[0]) {
				t.Errorf("%q and %q differ", text, same[0])
			}
		}
	}
	seen := map[string]string{}
	for _, text := range []string{
		"select a from t", "select b from t", "select a from u", "select a from s.t", "select a, a2 from t", "select a from t where b = 1", "select a from t where b > 1",
		"select a from t where b = c", "delete from t", "select 1; select 1 from t", "select a from t limit 1", "insert into t values (1, a)", "insert into t values (1, b)",
	} {
		if before := seen[of(text)]; before != "" {
			t.Errorf("%q and %q do not differ", text, before)
		}
		seen[of(text)] = text
	}
}
