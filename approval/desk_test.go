package approval

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

// book is a ledger in memory.
type book struct {
	mu      sync.Mutex
	entries []*custos.Entry
	fail    error
	hold    chan struct{} // Durable waits for it; nil: it does not wait
}

func (b *book) Append(leaf, _ []byte) (uint64, error) {
	if b.fail != nil {
		return 0, b.fail
	}
	e, err := custos.ParseEntry(leaf)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, e)
	return uint64(len(b.entries) - 1), err
}

func (b *book) Durable(uint64) error {
	if b.hold != nil {
		<-b.hold
	}
	return b.fail
}

func who(name string, groups ...string) *custos.Principal {
	return &custos.Principal{Issuer: "i", Subject: name, Name: name, Kind: custos.KindPerson, Groups: groups}
}

type world struct {
	*Desk
	book *book
	now  time.Time
	told []custos.Approval
}

func newWorld() *world {
	w := &world{book: &book{}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.Desk = New(w.options(), nil)
	return w
}

func (w *world) options() Options {
	return Options{Ledger: w.book, Now: func() time.Time { return w.now }, Reviewers: func() []string { return []string{"dba"} },
		Told: func(a custos.Approval) { w.told = append(w.told, a) }}
}

// again is the desk of a gateway that was started anew.
func (w *world) again() {
	r := Replay{}
	for _, e := range w.book.entries {
		r.Entry(e)
	}
	w.Desk = New(w.options(), r.Left(w.now))
}

func request(caller *custos.Principal, digest string) custos.Approval {
	return custos.Approval{Session: custos.NewSessionID(), Operation: 7, Digest: digest, Caller: *caller, Connection: "orders", Rule: "r", Policy: "1"}
}

func (w *world) ask(t *testing.T, a custos.Approval) string {
	t.Helper()
	got, err := w.Ask(a, 0)
	if err != nil {
		t.Fatal(err)
	}
	return got.ID
}

func TestAnswers(t *testing.T) {
	skill := who("skill")
	skill.OnBehalfOf = who("bob", "dba")
	for name, test := range map[string]struct {
		by      *custos.Principal
		approve bool
		reason  string
		want    error
		state   custos.ApprovalState
	}{
		"a reviewer approves":            {who("ana", "dba"), true, "", nil, custos.ApprovalApproved},
		"a reviewer denies":              {who("ana", "dba"), false, "not now", nil, custos.ApprovalDenied},
		"without a reason":               {who("ana", "dba"), false, " ", ErrReason, custos.ApprovalPending},
		"who asked":                      {who("skill", "dba"), true, "", ErrOwn, custos.ApprovalPending},
		"the person they act for":        {who("bob", "dba"), true, "", ErrOwn, custos.ApprovalPending},
		"who asked denies":               {who("bob", "dba"), false, "x", ErrOwn, custos.ApprovalPending},
		"no reviewer":                    {who("carl", "support"), true, "", ErrReviewer, custos.ApprovalPending},
		"another skill":                  {&custos.Principal{Issuer: "i", Subject: "s2", Kind: custos.KindSkill, Groups: []string{"dba"}}, true, "", ErrReviewer, custos.ApprovalPending},
		"who acts for a reviewer":        {&custos.Principal{Issuer: "i", Subject: "s3", Kind: custos.KindPerson, Groups: []string{"dba"}, OnBehalfOf: who("ana", "dba")}, true, "", ErrReviewer, custos.ApprovalPending},
		"nobody":                         {who("x"), true, "", ErrReviewer, custos.ApprovalPending},
		"a namesake of another issuer's": {&custos.Principal{Issuer: "j", Subject: "bob", Kind: custos.KindPerson, Groups: []string{"dba"}}, true, "", nil, custos.ApprovalApproved},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			id := w.ask(t, request(skill, "d"))
			got, err := w.Answer(id, test.by, test.approve, test.reason)
			if !errors.Is(err, test.want) || got.State != test.state {
				t.Errorf("got %v, %v; want %v, %v", got.State, err, test.state, test.want)
			}
			w.again()
			if got, err := w.Get(id); err == nil && got.State != test.state || err != nil && test.state != custos.ApprovalDenied {
				t.Errorf("after a new start: %v, %v", got.State, err)
			}
		})
	}
}

func TestQuorumOfTheRulesGroups(t *testing.T) {
	w := newWorld()
	a := request(who("skill"), "d")
	a.Groups, a.Count = []string{"sec"}, 2
	id := w.ask(t, a)
	if _, err := w.Answer(id, who("ana", "dba"), true, ""); !errors.Is(err, ErrReviewer) {
		t.Errorf("a reviewer whom the rule does not name: %v", err)
	}
	for i, want := range []custos.ApprovalState{custos.ApprovalPending, custos.ApprovalApproved} {
		got, err := w.Answer(id, who([]string{"s1", "s2"}[i], "sec"), true, "")
		if err != nil || got.State != want {
			t.Fatalf("answer %d: %v, %v", i, got.State, err)
		}
		if i == 0 {
			if _, err := w.Answer(id, who("s1", "sec"), true, ""); !errors.Is(err, ErrTwice) {
				t.Errorf("a second answer: %v", err)
			}
			w.again()
		}
	}
}

func TestUsedOnceAndBound(t *testing.T) {
	w := newWorld()
	id := w.ask(t, request(who("skill"), "d"))
	if err := w.Use(id, "d", "s", 7); !errors.Is(err, ErrUsed) {
		t.Errorf("before it is approved: %v", err)
	}
	if _, err := w.Answer(id, who("ana", "dba"), true, ""); err != nil {
		t.Fatal(err)
	}
	w.again()
	if err := w.Use(id, "e", "s", 7); !errors.Is(err, ErrUnbound) {
		t.Errorf("for something else: %v", err)
	}
	if err := w.Use(id, "d", "s", 7); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Use(id, "d", "s", 7); !errors.Is(err, ErrUsed) && !errors.Is(err, ErrUnknown) {
			t.Errorf("a second time: %v", err)
		}
		w.again()
	}
	if next := w.ask(t, request(who("skill"), "d")); next == id {
		t.Error("the same asked again takes the approval that was used")
	}
}

// TestUseWithTheLedgerFailing has the record of a use fail: nothing goes through,
// and as nobody knows what of it is on the disk, the approval is spent.
func TestUseWithTheLedgerFailing(t *testing.T) {
	w := newWorld()
	id := w.ask(t, request(who("skill"), "d"))
	if _, err := w.Answer(id, who("ana", "dba"), true, ""); err != nil {
		t.Fatal(err)
	}
	w.book.fail = errors.New("no space left on device")
	if err := w.Use(id, "d", "s", 7); !errors.Is(err, w.book.fail) {
		t.Errorf("with the ledger failing: %v", err)
	}
	w.book.fail = nil
	if err := w.Use(id, "d", "s", 7); !errors.Is(err, ErrUsed) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestManyAskAtOnce has many ask for the same and for other things while the
// ledger takes its time: each thing is asked once, and all wait for the ledger
// together.
func TestManyAskAtOnce(t *testing.T) {
	w := newWorld()
	w.book.hold = make(chan struct{})
	const things, each = 20, 5
	ids := make(chan [2]string, things*each)
	for i := range things * each {
		go func() {
			digest := strconv.Itoa(i % things)
			a, err := w.Ask(request(who("skill"), digest), 0)
			if err != nil {
				t.Error(err)
			}
			ids <- [2]string{digest, a.ID}
		}()
	}
	for range things {
		w.book.hold <- struct{}{} // each got to the ledger while none was durable
	}
	close(w.book.hold)
	seen := map[string]string{}
	for range things * each {
		got := <-ids
		if before, ok := seen[got[0]]; ok && before != got[1] {
			t.Errorf("%s was asked twice", got[0])
		}
		seen[got[0]] = got[1]
	}
	if all, _ := w.List(); len(all) != things || len(seen) != things {
		t.Errorf("%d are asked, want %d", len(all), things)
	}
}

func TestTheSameIsAskedOnce(t *testing.T) {
	w := newWorld()
	first := w.ask(t, request(who("skill"), "d"))
	if again := w.ask(t, request(who("skill"), "d")); again != first {
		t.Error("it was asked twice")
	}
	if other := w.ask(t, request(who("skill"), "e")); other == first {
		t.Error("something else was taken for it")
	}
}

func TestExpiry(t *testing.T) {
	w := newWorld()
	pending, approved := w.ask(t, request(who("skill"), "a")), w.ask(t, request(who("skill"), "b"))
	if _, err := w.Answer(approved, who("ana", "dba"), true, ""); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	if err := w.Use(approved, "b", "s", 1); !errors.Is(err, ErrUsed) {
		t.Errorf("used after its life: %v", err)
	}
	if _, err := w.Answer(pending, who("ana", "dba"), true, ""); !errors.Is(err, ErrOver) {
		t.Errorf("answered after its life: %v", err)
	}
	w.Sweep()
	for _, id := range []string{pending, approved} {
		if got, err := w.Get(id); err != nil || got.State != custos.ApprovalExpired {
			t.Errorf("%v, %v", got.State, err)
		}
	}
	if got, err := w.Await(t.Context(), pending); err != nil || got.State != custos.ApprovalExpired {
		t.Errorf("who waited: %v, %v", got.State, err)
	}
	w.now = w.now.Add(25 * time.Hour)
	w.Sweep()
	if all, _ := w.List(); len(all) > 0 {
		t.Errorf("after a day: %+v", all)
	}
}

func TestAccessForATime(t *testing.T) {
	w := newWorld()
	skill := who("skill")
	a := request(skill, "")
	a.For = 30 * time.Minute
	id := w.ask(t, a)
	if got := w.Granted(skill, "orders", nil, false); got != "" {
		t.Error("granted before anybody agreed")
	}
	if _, err := w.Answer(id, who("ana", "dba"), true, ""); err != nil {
		t.Fatal(err)
	}
	w.again()
	behalf := who("skill")
	behalf.OnBehalfOf = who("bob")
	for _, test := range []struct {
		caller     *custos.Principal
		connection string
		want       string
	}{{skill, "orders", id}, {skill, "other", ""}, {who("bob"), "orders", ""}, {behalf, "orders", ""}} {
		if got := w.Granted(test.caller, test.connection, []string{"ddl"}, false); got != test.want {
			t.Errorf("%v on %s: %q", test.caller, test.connection, got)
		}
	}
	for range 2 {
		if err := w.Use(id, "anything", "s", 1); err != nil {
			t.Error(err)
		}
	}
	w.now = w.now.Add(30 * time.Minute)
	if w.Granted(skill, "orders", nil, false) != "" || w.Use(id, "anything", "s", 1) == nil {
		t.Error("granted after its time")
	}
}

// TestAccessForSomeEffects has access be for a class of operations: what does
// anything besides is not covered, nor is what nothing is known of.
func TestAccessForSomeEffects(t *testing.T) {
	w := newWorld()
	a := request(who("ana2"), "")
	a.For, a.Effects = time.Hour, []string{"write.keyed", "write.values"}
	id := w.ask(t, a)
	if _, err := w.Answer(id, who("ana", "dba"), true, ""); err != nil {
		t.Fatal(err)
	}
	w.again()
	for want, effects := range map[string][][]string{
		id: {{"write.keyed"}, {"write.values", "write.keyed"}},
		"": {nil, {"read"}, {"write.wide"}, {"write.keyed", "ddl"}},
	} {
		for _, e := range effects {
			if got := w.Granted(who("ana2"), "orders", e, true); got != want {
				t.Errorf("%v: %q, want %q", e, got, want)
			}
		}
	}
}

// TestBreakGlass has nobody be asked, everybody be told, and the record say so.
func TestBreakGlass(t *testing.T) {
	w := newWorld()
	a := request(who("bob", "dba"), "")
	a.For, a.BreakGlass = time.Hour, true
	id := w.ask(t, a)
	if len(w.told) != 1 || !w.told[0].BreakGlass || w.told[0].State != custos.ApprovalApproved {
		t.Errorf("told: %+v", w.told)
	}
	w.again()
	if got := w.Granted(who("bob"), "orders", []string{"ddl"}, false); got != "" {
		t.Error("it lets through what no rule lets it")
	}
	if got := w.Granted(who("bob"), "orders", []string{"ddl"}, true); got != id {
		t.Errorf("it does not last: %q", got)
	}
	if err := w.Use(id, "x", "s", 3); err != nil {
		t.Fatal(err)
	}
	if e := w.book.entries[len(w.book.entries)-1]; e.Released == nil || !e.Released.BreakGlass {
		t.Errorf("the record: %+v", e)
	}
	if _, err := w.Answer(id, who("ana", "dba"), true, ""); !errors.Is(err, ErrOver) {
		t.Errorf("somebody agreed to it: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	for name, test := range map[string]struct {
		by     *custos.Principal
		reason string
		want   error
	}{
		"a reviewer":       {who("ana", "dba"), "it is over", nil},
		"who has it":       {who("skill"), "done", nil},
		"without a reason": {who("ana", "dba"), "", ErrReason},
		"anybody":          {who("carl"), "x", ErrReviewer},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			a := request(who("skill"), "")
			a.For = time.Hour
			id := w.ask(t, a)
			if _, err := w.Revoke(id, who("ana", "dba"), "early"); !errors.Is(err, ErrNoAccess) {
				t.Errorf("while it is pending: %v", err)
			}
			if _, err := w.Answer(id, who("eve", "dba"), true, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Revoke(id, test.by, test.reason); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
			for range 2 {
				lasts := w.Granted(who("skill"), "orders", nil, false) != "" && w.Use(id, "", "s", 1) == nil
				if lasts != (test.want != nil) {
					t.Errorf("it lasts: %v", lasts)
				}
				w.again()
			}
		})
	}
}

func TestWhoWaitsIsTold(t *testing.T) {
	w := newWorld()
	id := w.ask(t, request(who("skill"), "d"))
	told := make(chan custos.ApprovalState)
	go func() {
		a, _ := w.Await(context.Background(), id)
		told <- a.State
	}()
	_, changed := w.List()
	if err := w.Withdraw(id); err != nil {
		t.Fatal(err)
	}
	<-changed
	if got := <-told; got != custos.ApprovalWithdrawn {
		t.Error(got)
	}
	if _, err := w.Answer(id, who("ana", "dba"), true, ""); !errors.Is(err, ErrOver) {
		t.Error(err)
	}
}
