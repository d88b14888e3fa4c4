package postgres_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the transcripts and docs/coverage.md")

// TestTranscripts plays dialogues. A file of testdata has prose, then what the
// client says, what it got, what reached the target, and what is on record.
// Policy refuses texts that hold the word secret. A line "await X" waits for a
// message of type X, up to which "got" goes on.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Files) == 0 || a.Files[0].Name != "client" {
				t.Fatal("a transcript begins with what the client says")
			}
			want := txtar.Format(a)
			got, reached, ledger := play(t, string(a.Files[0].Data))
			a.Files = append(a.Files[:1], txtar.File{Name: "got", Data: []byte(got)}, txtar.File{Name: "reached", Data: []byte(reached)},
				txtar.File{Name: "ledger", Data: []byte(ledger)})
			if b := txtar.Format(a); string(b) != string(want) {
				if *update {
					if err := os.WriteFile(file, b, 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				t.Errorf("it went otherwise (-update rewrites the file):\n%s", b)
			}
		})
	}
}

func play(t *testing.T, script string) (got, reached, ledger string) {
	g := start(t)
	g.RefuseText("secret")
	f := g.raw(t)
	g.Tap.Sent()
	var out strings.Builder
	var pending []pgproto3.FrontendMessage
	for line := range strings.Lines(script) {
		words := split(t, strings.TrimSpace(line))
		if words[0] != "await" {
			pending = append(pending, message(t, words))
			continue
		}
		f.send(pending...)
		pending = nil
		for {
			types := f.untilAny()
			out.WriteString(inWords(types, f.last) + "\n")
			if types == words[1][0] {
				break
			}
		}
	}
	f.send(append(pending, &pgproto3.Terminate{})...)
	g.Ledger.AwaitClosed(1)
	return out.String(), frames(g.Tap.Sent()), g.settled() + "\n"
}

// untilAny reads one message.
func (f *line) untilAny() byte {
	f.t.Helper()
	var t [1]byte
	if _, err := f.conn.Read(t[:]); err != nil {
		f.t.Fatal(err)
	}
	f.last = f.body()
	return t[0]
}

var word = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\S+`)

// split splits a line into words, of which those in quotes are Go strings.
func split(t *testing.T, line string) []string {
	words := word.FindAllString(line, -1)
	if len(words) == 0 {
		t.Fatal("an empty line")
	}
	for i, w := range words {
		if s, err := strconv.Unquote(w); err == nil {
			words[i] = s
		}
	}
	return words
}

// message makes what a line of the client's says.
func message(t *testing.T, w []string) pgproto3.FrontendMessage {
	at := func(i int) string {
		if i < len(w) {
			return w[i]
		}
		return ""
	}
	number, _ := strconv.Atoi(at(2))
	switch w[0] {
	case "Query":
		return &pgproto3.Query{String: at(1)}
	case "Parse":
		return &pgproto3.Parse{Name: at(1), Query: at(2)}
	case "Bind":
		b := &pgproto3.Bind{DestinationPortal: at(1), PreparedStatement: at(2)}
		for _, p := range w[min(3, len(w)):] {
			b.Parameters = append(b.Parameters, []byte(p))
		}
		return b
	case "Describe":
		return &pgproto3.Describe{ObjectType: at(1)[0], Name: at(2)}
	case "Close":
		return &pgproto3.Close{ObjectType: at(1)[0], Name: at(2)}
	case "Execute":
		return &pgproto3.Execute{Portal: at(1), MaxRows: uint32(number)}
	case "FunctionCall":
		return &pgproto3.FunctionCall{Function: 1299}
	case "CopyData":
		return &pgproto3.CopyData{Data: []byte(at(1))}
	case "CopyDone":
		return &pgproto3.CopyDone{}
	case "CopyFail":
		return &pgproto3.CopyFail{Message: at(1)}
	case "Sync":
		return &pgproto3.Sync{}
	case "Flush":
		return &pgproto3.Flush{}
	}
	t.Fatalf("unknown message %q", w[0])
	return nil
}

var backendNames = map[byte]string{'1': "ParseComplete", '2': "BindComplete", '3': "CloseComplete", 't': "ParameterDescription", 'T': "RowDescription",
	'n': "NoData", 'D': "DataRow", 'C': "CommandComplete", 'I': "EmptyQueryResponse", 's': "PortalSuspended", 'E': "ErrorResponse", 'Z': "ReadyForQuery",
	'G': "CopyInResponse", 'H': "CopyOutResponse", 'd': "CopyData", 'c': "CopyDone", 'N': "NoticeResponse", 'A': "NotificationResponse"}

// inWords puts a message of the gateway's in words.
func inWords(t byte, body []byte) string {
	switch t {
	case 'C', 'd':
		return fmt.Sprintf("%s %q", backendNames[t], strings.TrimSuffix(string(body), "\x00"))
	case 'Z':
		return "ReadyForQuery " + string(body)
	case 'D':
		s := "DataRow"
		for b := body[2:]; len(b) >= 4; {
			n := int32(binary.BigEndian.Uint32(b))
			b = b[4:]
			if n < 0 {
				s += " null"
				continue
			}
			s += fmt.Sprintf(" %q", b[:n])
			b = b[n:]
		}
		return s
	case 'E':
		var e pgproto3.ErrorResponse
		if err := e.Decode(body); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("ErrorResponse %s %s %q", e.Severity, e.Code, e.Message)
	}
	return backendNames[t]
}

var poisoned = regexp.MustCompile(`refused by custos [A-Z2-7]+`)

// frames puts what reached the target in words: the name of each message, and
// the texts in it.
func frames(b []byte) string {
	names := map[byte]string{'Q': "Query", 'P': "Parse", 'B': "Bind", 'D': "Describe", 'E': "Execute", 'C': "Close", 'S': "Sync", 'H': "Flush",
		'd': "CopyData", 'c': "CopyDone", 'f': "CopyFail", 'X': "Terminate"}
	var out strings.Builder
	for len(b) >= 5 {
		n := int(binary.BigEndian.Uint32(b[1:])) + 1
		body := strings.TrimRight(string(b[5:n]), "\x00")
		body = poisoned.ReplaceAllString(body, "refused by custos ...")
		if out.WriteString(names[b[0]]); body != "" {
			fmt.Fprintf(&out, " %q", body)
		}
		out.WriteString("\n")
		b = b[n:]
	}
	return out.String()
}
