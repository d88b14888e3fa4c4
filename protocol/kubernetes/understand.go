package kubernetes

import (
	"net/http"
	"slices"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// The rules of this protocol itself: what it lets through for nobody.
const (
	rulePath        = "kubernetes/path"
	ruleImpersonate = "kubernetes/impersonation"
	ruleBody        = "kubernetes/body"
	ruleUpgrade     = "kubernetes/upgrade"
	ruleForm        = "kubernetes/answer-form"
)

// notFor is a refusal of this protocol's own.
type notFor struct{ decision custos.Decision }

func (n *notFor) Error() string { return n.decision.Reason }

func refuse(rule, reason, hint string) *notFor {
	return &notFor{custos.Decision{Effect: custos.Refuse, Rule: rule, Reason: reason, Hint: hint}}
}

// understand is what a request is. An error is a *notFor: it is refused
// whatever the rules say, and the operation then says what can be said of it.
func understand(method, path, query string, header http.Header, raw []byte, key *[32]byte) (*custos.Operation, *target, error) {
	t, err := parseTarget(method, path, query)
	if err != nil {
		text := method + " " + path
		if query != "" {
			text += "?" + query
		}
		return unread(text), nil, refuse(rulePath, trim(err), "write the path as the API server does: /api/v1/namespaces/NAME/pods/NAME")
	}
	if err := checkHead(t, header); err != nil {
		return operation(t, &body{}, nil, key), t, err
	}
	b, err := readBody(t, header.Get("Content-Type"), raw)
	if err == nil && len(header.Values("Content-Type")) > 1 {
		err = errTwoTypes
	}
	if err != nil {
		op := operation(t, &body{}, raw, key)
		op.Facts.Effects = append(op.Facts.Effects, "unknown")
		op.Facts.Unknown = append(op.Facts.Unknown, trim(err))
		return op, t, refuse(ruleBody, trim(err), "send it as JSON or YAML, each field once, with the Content-Type that it is")
	}
	return operation(t, b, raw, key), t, nil
}

// unread is a request of which only the text is known.
func unread(text string) *custos.Operation {
	return &custos.Operation{Class: classPath, Text: text, Writes: true, Facts: &custos.Facts{Effects: []string{"unknown"}, Unknown: []string{"the path"}}}
}

// trim is an error without the words that say who found it.
func trim(err error) string {
	s := err.Error()
	if _, after, ok := strings.Cut(s, ": "); ok {
		return after
	}
	return s
}

// checkHead looks at the header of a request.
func checkHead(t *target, header http.Header) error {
	for name := range header {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), "Impersonate-") || strings.HasPrefix(http.CanonicalHeaderKey(name), "X-Remote-") {
			return refuse(ruleImpersonate, "the header "+name+" says who somebody is, and the gateway says that", "leave it out: the gateway knows who you are by your token")
		}
	}
	if header.Get("Upgrade") != "" && !upgrades(t, header) {
		return refuse(ruleUpgrade, "a change of protocols is for exec, attach and port-forward", "ask without Upgrade: a watch is streamed as it is")
	}
	return nil
}

// upgrades reports whether a change of protocols is one that is recorded and
// looked into.
func upgrades(t *target, header http.Header) bool {
	if t.connect() && t.subresource == "proxy" {
		return true
	}
	return t.connect() && slices.Contains([]string{"websocket", "spdy/3.1"}, strings.ToLower(header.Get("Upgrade")))
}
