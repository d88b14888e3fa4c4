package identity

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custos-gateway/custos"
)

func TestEveryAlgorithm(t *testing.T) {
	c := newClock()
	var keys []testKey
	for _, alg := range algorithms {
		switch {
		case alg == "EdDSA":
			keys = append(keys, newEd("EdDSA"))
		case alg[:2] == "ES":
			keys = append(keys, newEC(string(alg), string(alg)))
		default:
			keys = append(keys, testKey{string(alg), string(alg), rsaKey()})
		}
	}
	a := newTestIssuer(t, keys...)
	v := newVerifier(t, c, a.issuer())
	pinned := a.issuer()
	pinned.Algorithms = []string{"ES256"}
	narrow := newVerifier(t, c, pinned)
	for _, k := range keys {
		for _, header := range []map[string]any{nil, {"kid": nil}, {"typ": nil}, {"typ": "at+jwt"}, {"typ": "application/at+JWT"}} {
			mustAccept(t, v, k.token(header, a.claims(c.Now(), nil)))
		}
		if k.alg != "ES256" {
			mustRefuse(t, narrow, k.token(nil, a.claims(c.Now(), nil)), Algorithm)
		}
	}
	mustAccept(t, narrow, keys[3].token(nil, a.claims(c.Now(), nil)))
}

// TestPrincipal shows what becomes of claims, for each way to configure it.
func TestPrincipal(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	exp := c.Now().Add(time.Hour)
	skill := map[string]any{"sub": "skill:reporter", "name": "reporter"}
	ana := &custos.Principal{Issuer: a.URL, Subject: "u-1", Name: "ana", Kind: custos.KindPerson, Expires: exp}
	for _, test := range []struct {
		name   string
		change func(*Issuer)
		claims map[string]any
		want   custos.Principal
	}{
		{name: "a person", want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "person", Groups: []string{"dba"}}},
		{name: "no groups", claims: map[string]any{"groups": nil}, want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "person"}},
		{name: "one group as a string", claims: map[string]any{"groups": "dba"}, want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "person", Groups: []string{"dba"}}},
		{name: "no name", claims: map[string]any{"preferred_username": nil}, want: custos.Principal{Subject: "u-1", Name: "u-1", Kind: "person", Groups: []string{"dba"}}},
		{name: "a name that can't be shown", claims: map[string]any{"preferred_username": "ana\x1b[2J", "email": "ana@example.com"},
			want: custos.Principal{Subject: "u-1", Name: "ana@example.com", Kind: "person", Groups: []string{"dba"}}},
		{name: "groups by pointer", change: func(i *Issuer) { i.GroupsClaim = "/realm_access/ro~1les" },
			claims: map[string]any{"realm_access": map[string]any{"ro/les": []string{"r1"}}},
			want:   custos.Principal{Subject: "u-1", Name: "ana", Kind: "person", Groups: []string{"r1"}}},
		{name: "groups by a URL as name", change: func(i *Issuer) { i.GroupsClaim = "https://example.com/groups" },
			claims: map[string]any{"https://example.com/groups": []string{"r1"}},
			want:   custos.Principal{Subject: "u-1", Name: "ana", Kind: "person", Groups: []string{"r1"}}},
		{name: "prefix and fixed groups", change: func(i *Issuer) { i.GroupsPrefix, i.Groups = "ci:", []string{"ci", "ci:dba"} },
			want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "person", Groups: []string{"ci:dba", "ci"}}},
		{name: "groups not asked for", change: func(i *Issuer) { i.GroupsClaim = "" }, want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "person"}},
		{name: "fixed kind", change: func(i *Issuer) { i.Kind = custos.KindCI }, want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "ci", Groups: []string{"dba"}}},
		{name: "kind by claim", change: func(i *Issuer) { i.KindClaim = "kind" }, claims: map[string]any{"kind": "workload"},
			want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "workload", Groups: []string{"dba"}}},
		{name: "kind by mapping", change: func(i *Issuer) { i.KindClaim, i.Kinds = "typ", map[string]custos.Kind{"Bot": custos.KindSkill} }, claims: map[string]any{"typ": "Bot"},
			want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "skill", Groups: []string{"dba"}}},
		{name: "kind claim absent", change: func(i *Issuer) { i.KindClaim = "kind" }, want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "person", Groups: []string{"dba"}}},
		{name: "actor", claims: map[string]any{"act": skill, "groups": []string{"skills"}},
			want: custos.Principal{Subject: "skill:reporter", Name: "reporter", Kind: "skill", Groups: []string{"skills"}, OnBehalfOf: ana}},
		{name: "actor of this issuer, by name", claims: map[string]any{"act": with(skill, "iss", a.URL), "groups": nil},
			want: custos.Principal{Subject: "skill:reporter", Name: "reporter", Kind: "skill", OnBehalfOf: ana}},
		{name: "actor of a listed issuer", change: func(i *Issuer) { i.ActorIssuers = []string{"https://skills.example.com"} },
			claims: map[string]any{"act": with(skill, "iss", "https://skills.example.com")},
			want:   custos.Principal{Issuer: "https://skills.example.com", Subject: "skill:reporter", Name: "reporter", Kind: "skill", Groups: []string{"dba"}, OnBehalfOf: ana}},
		{name: "fixed kinds of actor and subject", change: func(i *Issuer) { i.Kind, i.ActorKind = custos.KindSkill, custos.KindWorkload },
			claims: map[string]any{"act": skill, "groups": nil},
			want:   custos.Principal{Subject: "skill:reporter", Name: "reporter", Kind: "workload", OnBehalfOf: ana}},
		{name: "kinds of actor and subject by claim", change: func(i *Issuer) { i.KindClaim = "kind" }, claims: map[string]any{"act": with(skill, "kind", "workload"), "groups": nil},
			want: custos.Principal{Subject: "skill:reporter", Name: "reporter", Kind: "workload", OnBehalfOf: ana}},
		{name: "the subject's own groups", change: func(i *Issuer) { i.SubjectGroupsClaim = "subject_groups" },
			claims: map[string]any{"act": skill, "groups": []string{"skills"}, "subject_groups": []string{"dba"}},
			want: custos.Principal{Subject: "skill:reporter", Name: "reporter", Kind: "skill", Groups: []string{"skills"},
				OnBehalfOf: &custos.Principal{Issuer: a.URL, Subject: "u-1", Name: "ana", Kind: custos.KindPerson, Expires: exp, Groups: []string{"dba"}}}},
		{name: "the outermost actor acts, the others are history",
			claims: map[string]any{"groups": nil, "act": with(skill, "act", map[string]any{"sub": "job", "act": map[string]any{"sub": "root"}})},
			want:   custos.Principal{Subject: "skill:reporter", Name: "reporter", Kind: "skill", OnBehalfOf: ana}},
		{name: "may_act changes nothing", claims: map[string]any{"may_act": skill}, want: custos.Principal{Subject: "u-1", Name: "ana", Kind: "person", Groups: []string{"dba"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			is := a.issuer()
			if test.change != nil {
				test.change(&is)
			}
			got, err := newVerifier(t, c, is).Verify(context.Background(), key.token(nil, a.claims(c.Now(), test.claims)))
			if err != nil {
				t.Fatal(err)
			}
			if test.want.Issuer == "" {
				test.want.Issuer = a.URL
			}
			test.want.Expires = exp
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfiguredClaimsAreRequired(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	is := a.issuer()
	is.Require = map[string][]string{"repository_owner": {"acme", "acme-labs"}, "/ref/protected": {"true"}}
	v := newVerifier(t, c, is)
	token := func(owner, protected any) string {
		return key.token(nil, a.claims(c.Now(), map[string]any{"repository_owner": owner, "ref": map[string]any{"protected": protected}}))
	}
	mustAccept(t, v, token("acme-labs", true))
	for _, owner := range []any{nil, "", "acm", "acme2", []string{"acme"}} {
		mustRefuse(t, v, token(owner, true), Claims)
	}
	mustRefuse(t, v, token("acme", false), Claims)
}

func TestSeveralAudiences(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	is := a.issuer()
	both := []string{"billing", "custos"}
	mustAccept(t, newVerifier(t, c, is), key.token(nil, a.claims(c.Now(), map[string]any{"aud": both, "azp": "custos"})))
	mustAccept(t, newVerifier(t, c, is), key.token(nil, a.claims(c.Now(), map[string]any{"aud": []string{"custos"}})))

	is.AuthorizedParties = []string{"custos-cli"}
	v := newVerifier(t, c, is)
	mustAccept(t, v, key.token(nil, a.claims(c.Now(), map[string]any{"aud": both, "azp": "custos-cli"})))
	mustAccept(t, v, key.token(nil, a.claims(c.Now(), map[string]any{"client_id": "custos-cli"})))
	mustRefuse(t, v, key.token(nil, a.claims(c.Now(), map[string]any{"azp": "billing", "client_id": "custos-cli"})), Audience)
	mustRefuse(t, v, key.token(nil, a.claims(c.Now(), nil)), Audience)
}

func TestLeeway(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	v := newVerifier(t, c, a.issuer())
	strict, err := New(Options{Issuers: []Issuer{a.issuer()}, Now: c.Now, Leeway: -1})
	if err != nil {
		t.Fatal(err)
	}
	at := func(claim string, d time.Duration) string {
		return key.token(nil, a.claims(c.Now(), map[string]any{claim: c.Now().Add(d).Unix()}))
	}
	mustAccept(t, v, at("exp", -DefaultLeeway+time.Second))
	mustRefuse(t, v, at("exp", -DefaultLeeway), Expired)
	mustAccept(t, v, at("nbf", DefaultLeeway))
	mustRefuse(t, v, at("nbf", DefaultLeeway+time.Second), NotYetValid)
	mustRefuse(t, strict, at("exp", 0), Expired)
	mustRefuse(t, strict, at("iat", time.Second), NotYetValid)
	if _, err := New(Options{Leeway: time.Hour}); err == nil {
		t.Error("a leeway of an hour was accepted")
	}
}

func TestLargeTokenIsAccepted(t *testing.T) {
	c := newClock()
	key := testKey{"k1", "RS256", rsaKey()}
	a := newTestIssuer(t, key)
	v := newVerifier(t, c, a.issuer())
	for _, size := range []int{16 << 10, MaxToken} {
		pad := size
		var token string
		for token = ""; token == "" || len(token) > size; pad-- {
			if over := len(token) - size; over > 4 {
				pad -= over / 2
			}
			token = key.token(nil, a.claims(c.Now(), map[string]any{"pad": strings.Repeat("x", pad)}))
		}
		if len(token) < size-4 {
			t.Fatalf("the token has %d bytes; want about %d", len(token), size)
		}
		mustAccept(t, v, token)
	}
}

// TestUnknownKindIsRefused: a value that nobody mapped is not taken for a
// person.
func TestUnknownKindIsRefused(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	is := a.issuer()
	is.KindClaim = "kind"
	v := newVerifier(t, c, is)
	for _, kind := range []any{"robot", "Person", "", 7, []string{"person"}} {
		mustRefuse(t, v, key.token(nil, a.claims(c.Now(), map[string]any{"kind": kind})), Claims)
		mustRefuse(t, v, key.token(nil, a.claims(c.Now(), map[string]any{"act": map[string]any{"sub": "s", "kind": kind}})), Claims)
	}
}

// TestBracketsInStringsAreNotDepth: only real nesting counts.
func TestBracketsInStringsAreNotDepth(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	v := newVerifier(t, c, a.issuer())
	for _, s := range []string{strings.Repeat("[", 100), `"` + strings.Repeat("{", 100), `\`, `\"` + strings.Repeat("[", 100)} {
		mustAccept(t, v, key.token(nil, a.claims(c.Now(), map[string]any{"x": s, "y": []string{"[", s}})))
	}
}

// TestGroupsFitAnEntry: as many groups as are accepted, of whatever letters,
// take no more than their limit in a record.
func TestGroupsFitAnEntry(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	is := a.issuer()
	is.GroupsPrefix = "ci:"
	v := newVerifier(t, c, is)
	for _, group := range []string{"g", "<>&", `"\`, strings.Repeat("long", 20), "é€𝄞"} {
		least, most := 0, 12_000
		for most-least > 1 {
			n := (least + most) / 2
			groups := strings.Fields(strings.Repeat(group+" ", n))
			p, err := v.Verify(context.Background(), key.token(nil, a.claims(c.Now(), map[string]any{"groups": groups})))
			if err != nil {
				most = n
				continue
			}
			least = n
			if size := len(encode(p.Groups)); size > maxGroups+2 {
				t.Fatalf("%d groups like %q were accepted: %d bytes of JSON", n, group, size)
			}
		}
		if least < 100 {
			t.Errorf("only %d groups like %q were accepted", least, group)
		}
	}
}

func TestValidateNamesEverything(t *testing.T) {
	_, err := New(Options{Issuers: []Issuer{
		{URL: "http://id.example.com", Algorithms: []string{"none", "HS256", "RS256"}},
		{URL: "https://user:secret@id.example.com", Audiences: []string{"custos"}, Kind: "robot", Kinds: map[string]custos.Kind{"x": "ghost"}},
		{URL: "https://a.example/?tenant=1", Audiences: []string{"custos"}, DiscoveryURL: "ftp://a.example", JWKSURL: "http://10.0.0.1/keys", Require: map[string][]string{"owner": nil}},
		{URL: "https://b.example", Audiences: []string{"custos"}, CAFile: "/nonexistent/ca.pem"},
		{},
	}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`"http://id.example.com" must be https`, "audience: it is missing", `"none" is not possible`, `"HS256" is not possible`,
		"must be scheme, host and path only", `kind: "robot" is unknown`, `kind: "ghost" is unknown`, "discovery_url", "jwks_url",
		`claim "owner" has no values`, "read ca_file", "url: it is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "RS256\" is not") {
		t.Errorf("the error blames a good value:\n%v", err)
	}
}

func TestLoopbackMayBePlain(t *testing.T) {
	for url, ok := range map[string]bool{
		"http://127.0.0.1:8080": true, "http://[::1]:8080/realm": true, "http://localhost": true, "https://id.example.com/realms/a": true,
		"http://127.0.0.1.example.com": false, "http://localhost.example.com": false, "http://10.0.0.1": false, "http://0.0.0.0": false, "file:///etc/passwd": false,
		"https:opaque": false, "https://user@a.example": false, "https://": false, "https://a.example/#x": false,
	} {
		if err := CheckURL(url); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestPeek(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	act := map[string]any{"sub": "skill:reporter", "iss": "https://skills.example.com"}
	got, err := Peek(key.token(nil, a.claims(c.Now(), map[string]any{"act": act, "aud": "anybody"})))
	if err != nil {
		t.Fatal(err)
	}
	exp := c.Now().Add(time.Hour)
	want := &custos.Principal{Issuer: "https://skills.example.com", Subject: "skill:reporter", Name: "skill:reporter", Groups: []string{"dba"}, Expires: exp,
		OnBehalfOf: &custos.Principal{Issuer: a.URL, Subject: "u-1", Name: "ana", Expires: exp}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, token := range []string{"", "opaque", key.token(nil, a.claims(c.Now(), map[string]any{"sub": nil}))} {
		if p, err := Peek(token); CodeOf(err) == "" || p != nil {
			t.Errorf("%q: %v, %v", token, p, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	c := newClock()
	key, ec := testKey{"k1", "RS256", rsaKey()}, newEC("e1", "ES256")
	a := newTestIssuer(f, key, ec)
	v := newVerifier(f, c, a.issuer())
	valid := key.token(nil, a.claims(c.Now(), nil))
	f.Add(valid)
	f.Add(ec.token(map[string]any{"jwk": map[string]any{"kty": "EC"}}, a.claims(c.Now(), nil)))
	f.Add(key.token(map[string]any{"crit": []string{"b64"}, "x5c": []string{"AA"}}, `{"iss":"`+a.URL+`","exp":1e9}`))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		p, err := v.Verify(context.Background(), token)
		if (p == nil) == (err == nil) || err != nil && CodeOf(err) == "" {
			t.Fatalf("principal %v, error %v", p, err)
		}
	})
}

// FuzzClaims gives the payload to the fuzzer, under a signature that holds.
func FuzzClaims(f *testing.F) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(f, key)
	is := a.issuer()
	is.KindClaim, is.GroupsClaim, is.SubjectGroupsClaim = "kind", "/a/groups", "g"
	v := newVerifier(f, c, is)
	f.Add(string(encode(a.claims(c.Now(), map[string]any{"act": map[string]any{"sub": "s"}}))), a.URL)
	f.Add(`{"iss":"`+a.URL+`","aud":["custos"],"sub":"x","exp":1e10,"a":{"groups":["x"]},"kind":"ci","act":{"sub":"y","act":{}}}`, a.URL)
	f.Fuzz(func(t *testing.T, payload, issuer string) {
		p, err := v.Verify(context.Background(), key.token(nil, strings.ReplaceAll(payload, issuer, a.URL)))
		if (p == nil) == (err == nil) || err != nil && CodeOf(err) == "" {
			t.Fatalf("principal %v, error %v", p, err)
		}
		if p != nil && (p.Subject == "" || p.Issuer == "" || p.Kind == "" || p.Expires.IsZero()) {
			t.Fatalf("accepted as %+v", p)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	c := newClock()
	for _, k := range []testKey{{"k1", "RS256", rsaKey()}, newEC("k2", "ES256"), newEd("k3")} {
		b.Run(k.alg, func(b *testing.B) {
			a := newTestIssuer(b, k)
			v := newVerifier(b, c, a.issuer())
			token := k.token(nil, a.claims(c.Now(), nil))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("refused for its form", func(b *testing.B) {
		v := newVerifier(b, c)
		token := strings.Repeat("A", 4096)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(context.Background(), token); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}
