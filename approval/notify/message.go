package notify

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	custos "github.com/custos-gateway/custos"
)

// Message is what people are told. Its texts are of callers' making: each
// channel shows them as plain text, in which nothing is a link or a mention.
type Message struct {
	// ID is the same for each try to deliver it.
	ID       string
	Event    string
	Approval string
	State    custos.ApprovalState
	// Title says in a line what it is about.
	Title string
	// Facts are names and values, in order.
	Facts [][2]string
	// Statement is the operation's text, where its rule allows it.
	Statement string
	// Link is where one signs in and answers; "": there is none.
	Link string
	At   time.Time
}

// How much of a caller's texts is told, in characters.
const (
	maxFact      = 200
	maxStatement = 1000
)

func (n *Notifier) message(a *custos.Approval, event string) Message {
	m := Message{ID: a.ID + "." + event, Event: event, Approval: a.ID, State: a.State, At: n.o.Now()}
	if event == Answered {
		m.ID += "." + string(a.State)
	}
	if n.o.Link != nil {
		m.Link = n.o.Link(a.ID)
	}
	caller := name(&a.Caller)
	if b := a.Caller.OnBehalfOf; b != nil {
		caller += " for " + name(b)
	}
	what := "an operation"
	switch {
	case a.For > 0:
		what = "access for " + a.For.String()
	case len(a.Verbs) > 0:
		what = a.Verbs[0]
		if len(a.Objects) > 0 {
			what += " on " + a.Objects[0]
		}
	}
	switch event {
	case Requested:
		m.Title = caller + " asks for " + what + " at " + a.Connection
	case BreakGlass:
		m.Title = "BREAK GLASS: " + caller + " took " + what + " at " + a.Connection
	default:
		m.Title = caller + "'s request for " + what + " at " + a.Connection + " is " + string(a.State)
	}
	m.Title = plain(m.Title, maxFact)
	fact := func(name, value string) {
		if value = plain(value, maxFact); value != "" {
			m.Facts = append(m.Facts, [2]string{name, value})
		}
	}
	fact("Caller", caller)
	fact("Connection", a.Connection)
	fact("What", what)
	if len(a.Objects) > 1 {
		fact("Touches", strings.Join(a.Objects, ", "))
	}
	fact("Effects", strings.Join(a.Effects, ", "))
	if e := a.Estimate; e != nil && e.Unknown == "" {
		fact("Rows", rows(e))
	}
	fact("Rule", a.Rule)
	fact("Purpose", a.Purpose)
	for _, x := range a.Answers {
		word := "denied by"
		if x.Approve {
			word = "approved by"
		}
		fact("Answer", word+" "+name(&x.By))
	}
	if event == Requested {
		fact("Expires", a.Expires.UTC().Format(time.RFC3339))
	}
	if !a.Until.IsZero() {
		fact("Until", a.Until.UTC().Format(time.RFC3339))
	}
	fact("Approval", a.ID)
	m.Statement = plainLines(a.Statement, maxStatement)
	return m
}

func rows(e *custos.Estimate) string {
	if e.Exact {
		return fmt.Sprint(e.Rows)
	}
	return fmt.Sprintf("about %d", e.Rows)
}

func name(p *custos.Principal) string {
	if p.Name != "" {
		return p.Name
	}
	return p.Subject
}

// plain is a text in one line, without what would change how the rest is shown,
// and not longer than most characters.
func plain(text string, most int) string {
	return strings.Join(strings.Fields(plainLines(text, most)), " ")
}

// plainLines is plain of a text that may have lines.
func plainLines(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case !unicode.IsPrint(r):
			return ' ' // control characters, and marks that turn the text around
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	if all := []rune(text); len(all) > most {
		return string(all[:most-1]) + "…"
	}
	return text
}
