package custos

import (
	"encoding/json"
	"testing"
	"time"
)

// The hand-written encoder and encoding/json must agree on what an entry says.
func TestAppendJSONAgreesWithEncodingJSON(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	hostile := "a\"\\\x00\n\x7fé\u2028<&>\xff\U0001F600"
	caller := Principal{Issuer: "https://id", Subject: "s", Name: hostile, Kind: KindSkill,
		OnBehalfOf: &Principal{Issuer: "https://id", Subject: "ana", Kind: KindPerson}, Expires: at}
	entries := []Entry{
		{Kind: EntryStarted, At: at, Note: &Note{Text: hostile}},
		{Kind: EntryOpened, At: at, Session: NewSessionID(), Opened: &Opened{Caller: caller, Connection: "orders",
			Protocol: "postgres", Client: "127.0.0.1:1", Asserted: map[string]string{"application_name": hostile}, Key: "00"}},
		{Kind: EntrySubmitted, At: at, Session: NewSessionID(), Submit: &Submitted{Class: "Query",
			Verbs: []string{"SELECT", hostile}, Objects: []string{"public.t"}, Writes: true, Digest: "ab",
			Effect: "allow", Rule: hostile, Policy: "1"}, Attachment: &Digest{SHA256: "cd", Bytes: 7}},
		{Kind: EntryInput, At: at, Session: "x", Input: &Input{Operation: 1<<64 - 1}},
		{Kind: EntrySettled, At: at, Session: "x", Settled: &Settled{Operation: 3, State: StateOK, Code: "00000",
			Rows: 1, Bytes: 2, Masked: 3, Recording: &Digest{SHA256: "ef", Bytes: 9}}},
		{Kind: EntrySettled, At: at, Session: "x", Settled: &Settled{State: StateSkipped}},
		{Kind: EntryClosed, At: at, Session: "x", Closed: &Closed{Reason: hostile, Operations: 4}},
	}
	for i := range entries {
		e := &entries[i]
		byHand := e.AppendJSON(nil)
		if !json.Valid(byHand) {
			t.Fatalf("%s: not JSON: %s", e.Kind, byHand)
		}
		got, err := ParseEntry(byHand)
		if err != nil {
			t.Fatal(err)
		}
		byLibrary, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ParseEntry(byLibrary)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("%s:\n by hand %s\n library %s", e.Kind, a, b)
		}
	}
}

func TestAppendJSONOfAnOperationDoesNotAllocate(t *testing.T) {
	e := Entry{Kind: EntrySubmitted, At: time.Now(), Session: NewSessionID(), Submit: &Submitted{Class: "Query",
		Verbs: []string{"SELECT"}, Objects: []string{"public.t"}, Digest: "ab", Effect: "allow"},
		Attachment: &Digest{SHA256: "cd", Bytes: 7}}
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = e.AppendJSON(buf[:0]) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestSessionIDHasOneForm(t *testing.T) {
	const good = "nklz2ovhf57e5zpgjpparmljfa"
	if !NewSessionID().Valid() || !SessionID(good).Valid() {
		t.Error("an id is not valid")
	}
	for _, id := range []string{"", "x", good[1:], good + "a", good[:25] + "b", "\n" + good, good[:5] + "\r\n" + good[5:], "../" + good[3:], "NKLZ2OVHF57E5ZPGJPPARMLJFA"} {
		if SessionID(id).Valid() {
			t.Errorf("%q is valid", id)
		}
	}
}

func FuzzParseSealed(f *testing.F) {
	o := Operation{Class: "Execute", Text: "select $1", Params: []Param{{Type: 23, Value: []byte("1")}, {Null: true}, {Binary: true, Value: []byte{0, 1}}}}
	f.Add(o.AppendSealed(nil))
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseSealed(b)
		if err != nil {
			return
		}
		again, err := ParseSealed(o.AppendSealed(nil))
		if err != nil {
			t.Fatalf("what was parsed does not parse again: %v", err)
		}
		if again.Class != o.Class || again.Text != o.Text || len(again.Params) != len(o.Params) {
			t.Fatalf("%+v became %+v", o, again)
		}
	})
}
