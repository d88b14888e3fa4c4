package gate

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
)

// ready is a body that lies ready in two pieces.
type ready struct {
	left [][]byte
	fail error
}

func (r *ready) Read([]byte) (int, error) { return 0, errors.New("it is asked for pieces") }
func (r *ready) Close() error             { return nil }

func (r *ready) Next() ([]byte, error) {
	if len(r.left) == 0 {
		return nil, r.fail
	}
	p := r.left[0]
	r.left = r.left[1:]
	return p, nil
}

func TestPiecesAreRecordedAsTheyAre(t *testing.T) {
	w, g := newWorld(t)
	got := make(chan []byte, 1)
	target := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- b
	}))
	defer target.Close()
	w.http = http.DefaultTransport
	s := w.open(t, g)
	u, _ := url.Parse(target.URL)
	send := func(body *ready) error {
		permits, err := s.Submit(t.Context(), nil, []Request{{Operation: &custos.Operation{Class: "POST", Text: "POST /"}, HTTP: &http.Request{Method: "POST", URL: u, Header: http.Header{}, Body: body}}})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := permits[0].RoundTrip()
		if err == nil {
			resp.Body.Close()
		}
		return errors.Join(err, permits[0].Settle(Outcome{State: custos.StateOK}))
	}
	one, two := bytes.Repeat([]byte("1"), 300_000), bytes.Repeat([]byte("2"), 300_000)
	if err := send(&ready{[][]byte{one, two}, io.EOF}); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, append(one, two...)) {
		t.Errorf("the target got %d bytes of something else", len(b))
	}
	if n := strings.Count(w.book.kinds(), "operation.input"); n != 2 {
		t.Errorf("%d pieces are on record: %s", n, w.book.kinds())
	}
	if err := send(&ready{[][]byte{one}, errors.New("the spool is gone")}); err == nil {
		t.Error("a body that breaks off was sent whole")
	}
}
