package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// rehearsal is what the client's half may have the target asked while people
// are asked: what is there, and what would be. It changes nothing.
type rehearsal struct{ rt http.RoundTripper }

// maxRehearsed bounds, in bytes, an answer that is compared.
const maxRehearsed = 2 << 20

// diff is what a request would change, in lines of YAML: those that go with -
// before, those that come with +. Values of Secrets are hidden in both.
func (h *rehearsal) diff(ctx context.Context, t *target, header http.Header, raw []byte) (string, error) {
	var before, after []byte
	var err error
	if t.name != "" {
		if before, err = h.ask(ctx, http.MethodGet, t, nil, nil, nil); err != nil && t.verb != "update" && t.verb != "patch" {
			return "", err
		}
	}
	if t.verb != "delete" && t.verb != "deletecollection" {
		query := url.Values{}
		for _, name := range []string{"fieldManager", "force", "fieldValidation"} {
			if v := t.query[name]; len(v) > 0 {
				query[name] = v
			}
		}
		query.Set("dryRun", "All")
		if after, err = h.ask(ctx, t.method, t, query, header, raw); err != nil {
			return "", err
		}
	}
	return compare(before, after), nil
}

// ask asks for a thing, or has a change of it tried.
func (h *rehearsal) ask(ctx context.Context, method string, t *target, query url.Values, header http.Header, raw []byte) ([]byte, error) {
	if method != http.MethodGet && (t.connect() || len(query["dryRun"]) != 1 || query["dryRun"][0] != "All") {
		return nil, errors.New("rehearse request: it is not only tried")
	}
	r, err := http.NewRequestWithContext(ctx, method, "https://kubernetes"+t.path, bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("rehearse request: %w", err)
	}
	r.URL.RawQuery = query.Encode()
	for _, name := range []string{"Content-Type", "Impersonate-User", "Impersonate-Group", "Impersonate-Uid"} {
		if v := header.Values(name); len(v) > 0 {
			r.Header[name] = v
		}
	}
	r.Header.Set("Accept", typeJSON)
	resp, err := h.rt.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("rehearse request: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxRehearsed+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("rehearse request: %w", err)
	case len(b) > maxRehearsed:
		return nil, errors.New("rehearse request: the answer is too long to be compared")
	case resp.StatusCode >= http.StatusBadRequest:
		var s status
		json.Unmarshal(b, &s) // what is no Status says nothing
		return nil, fmt.Errorf("the API server would answer %d: %s", resp.StatusCode, s.Message)
	}
	if t.of("", "secrets") {
		if b, _, err = hideSecrets(b, redactSecret); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// compare is the difference of two objects in JSON, line by line in YAML.
func compare(before, after []byte) string {
	was, is := inLines(before), inLines(after)
	// The longest common subsequence of two short texts; long ones are told by
	// what is at both ends the same.
	var out strings.Builder
	for len(was) > 0 && len(is) > 0 && was[0] == is[0] {
		was, is = was[1:], is[1:]
	}
	var tail []string
	for len(was) > 0 && len(is) > 0 && was[len(was)-1] == is[len(is)-1] {
		tail = append(tail, was[len(was)-1])
		was, is = was[:len(was)-1], is[:len(is)-1]
	}
	for _, line := range was {
		if i := slices.Index(is, line); i >= 0 {
			for _, added := range is[:i] {
				out.WriteString("+" + added + "\n")
			}
			is = is[i+1:]
			continue
		}
		out.WriteString("-" + line + "\n")
	}
	for _, line := range is {
		out.WriteString("+" + line + "\n")
	}
	return out.String()
}

// inLines is an object without what the API server keeps for itself.
func inLines(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	var m map[string]any
	if json.Unmarshal(b, &m) != nil {
		return nil
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		for _, name := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
			delete(meta, name)
		}
	}
	delete(m, "status")
	text, err := yaml.Marshal(m)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}
