package sql

import "testing"

// Reads holds for what changes nothing whatever it comes upon, and for nothing
// of which that is not known.
func TestReads(t *testing.T) {
	p := NewPostgres(Limits{})
	column := func(name string, typ uint32) Column { return Column{Number: 1, Name: name, Type: typ} }
	relations := []Relation{
		{OID: 20001, Schema: "public", Name: "plain", Kind: 'r', Columns: []Column{column("id", 23)}},
		{OID: 20002, Schema: "public", Name: "policed", Kind: 'r', Policed: true, Columns: []Column{column("id", 23)}},
		{OID: 20003, Schema: "public", Name: "typed", Kind: 'r', Columns: []Column{column("mood", 20100)}},
		{OID: 20004, Schema: "public", Name: "seen", Kind: 'v', Definition: "SELECT id FROM public.plain", Columns: []Column{column("id", 23)}},
		{OID: 20005, Schema: "public", Name: "elsewhere", Kind: 'f', Columns: []Column{column("id", 23)}},
		{OID: 20006, Schema: "public", Name: "parted", Kind: 'p', Columns: []Column{column("id", 23)}},
		{OID: 20007, Schema: "public", Name: "part", Kind: 'r', Parents: []uint32{20006}, Columns: []Column{column("id", 23)}},
		{OID: 20008, Schema: "public", Name: "far", Kind: 'p', Columns: []Column{column("id", 23)}},
		{OID: 20009, Schema: "public", Name: "farther", Kind: 'f', Parents: []uint32{20008}, Columns: []Column{column("id", 23)}},
		{OID: 20010, Schema: "public", Name: "twice", Kind: 'r', Columns: []Column{column("id", 23)}},
		{OID: 20011, Schema: "other", Name: "twice", Kind: 'v', Definition: "SELECT 1 AS id", Columns: []Column{column("id", 23)}},
	}
	functions := []Function{
		{Schema: "public", Name: "calm", Volatility: 'i', Language: "sql", Body: "SELECT 1"},
		{Schema: "public", Name: "upper", Volatility: 'v', Language: "plpgsql", Body: "BEGIN RETURN 1; END"},
	}
	c := NewCatalog(relations, functions)
	overridden := NewCatalog(relations, functions)
	overridden.Overridden()
	for text, want := range map[string]bool{
		"SELECT 1": true, "VALUES (1)": true, "TABLE plain": true,
		"SELECT id FROM plain WHERE id = $1":                                         true,
		"SELECT count(*), max(id) FROM parted p JOIN plain USING (id) GROUP BY p.id": true,
		"WITH x AS (SELECT * FROM plain) SELECT lower('A'), now() FROM x ORDER BY 1": true,
		"SELECT 1; SELECT id FROM plain":                                             true,
		"SELECT id FROM public.twice":                                                true,
		"SELECT id FROM twice":                                                       false,
		"SELECT id FROM nowhere":                                                     false,
		"SELECT id FROM policed":                                                     false,
		"SELECT id FROM plain WHERE id IN (SELECT id FROM policed)":                  false,
		"SELECT mood FROM typed":                                                     false,
		"SELECT id FROM seen":                                                        false,
		"SELECT id FROM elsewhere":                                                   false,
		"SELECT id FROM far":                                                         false,
		"SELECT calm()":                                                              false,
		"SELECT p.calm FROM plain p":                                                 false,
		"SELECT upper('a')":                                                          false,
		"SELECT nextval('s')":                                                        false,
		"SELECT pg_sleep(1)":                                                         false,
		"SELECT pg_advisory_lock(1)":                                                 false,
		"SELECT set_config('a.b', 'c', false)":                                       false,
		"SELECT id FROM plain FOR UPDATE":                                            false,
		"SELECT * INTO copy FROM plain":                                              false,
		"WITH x AS (DELETE FROM plain RETURNING id) SELECT * FROM x":                 false,
		"SELECT 1; DELETE FROM plain WHERE id = 1":                                   false,
		"EXPLAIN SELECT 1":                                                           false,
		"SHOW search_path":                                                           true,
		"EXECUTE x":                                                                  false,
		"FETCH x":                                                                    false,
		"DECLARE x CURSOR FOR SELECT 1":                                              false,
		"BEGIN":                                                                      false,
		"COMMIT":                                                                     false,
		"COPY plain TO STDOUT":                                                       false,
		"SELECT query_to_xml('select 1', true, true, '')":                            false,
		"SELECT 1 OPERATOR(public.+) 1":                                              false,
		"SELECT '1'::public.mood":                                                    false,
	} {
		parsed, err := p.Parse(text, c)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if parsed.Reads != want {
			t.Errorf("%s: reads %v, want %v (effects %v, unknown %v)", text, parsed.Reads, want, parsed.Facts.Effects, parsed.Facts.Unknown)
		}
		if parsed.Reads && parsed.Writes {
			t.Errorf("%s: it reads and writes", text)
		}
		for _, less := range []*Catalog{nil, overridden} {
			if parsed, err := p.Parse(text, less); err != nil || parsed.Reads {
				t.Errorf("%s: reads, by a catalogue that does not tell: %v", text, err)
			}
		}
	}
}
