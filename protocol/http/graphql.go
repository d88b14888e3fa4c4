package http

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// Bounds of a GraphQL document: tokens, fields within fields, and what is asked
// for at its root.
const (
	maxTokens     = 20_000
	maxSelections = 25
	maxRoots      = 100
)

// document is one GraphQL request, as far as it counts.
type document struct {
	operation string // query, mutation or subscription
	// fields are those that are asked for, from the root, by their real names.
	fields []string
	// roots are the real names of the root's fields.
	roots []string
	// aliases are the real names behind names of the answer.
	aliases map[string][]string
	// introspects: it asks for the schema.
	introspects bool
}

// graphQL finds the GraphQL requests in a request; nil: it is none. An error: it
// is one, and cannot be understood.
func graphQL(method string, a *address, b *body) ([]*document, error) {
	named := strings.EqualFold(a.last(), "graphql") || strings.EqualFold(a.last(), "gql") || b.form == formGraphQL
	type asked struct {
		text, name string
	}
	var all []asked
	take := func(o *object) error {
		text, isText := o.values["query"].(string)
		if !named && (!isText || !looksLikeGraphQL(text)) {
			return errNone
		}
		if text == "" {
			return errors.New("it names a query that the target keeps, or has none")
		}
		all = append(all, asked{text, o.text("operationName")})
		return nil
	}
	var err error
	switch {
	case b.form == formGraphQL:
		all = append(all, asked{string(b.raw), a.query.Get("operationName")})
	case b.form == formJSON && len(b.values) == 1:
		switch v := b.values[0].(type) {
		case *object:
			err = take(v)
		case []any:
			for _, item := range v {
				if o, ok := item.(*object); ok && err == nil {
					err = take(o)
				} else if named && err == nil {
					err = errors.New("an item of its list is no request")
				}
			}
		}
	case b.form == formForm && named:
		all = append(all, asked{b.pairs.Get("query"), b.pairs.Get("operationName")})
	case b.form == formNone && named && a.query.Has("query"):
		all = append(all, asked{a.query.Get("query"), a.query.Get("operationName")})
	case named && (a.query.Has("extensions") || b.form != formNone):
		err = errors.New("there is no query in it that can be read")
	}
	if errors.Is(err, errNone) {
		return nil, nil
	}
	if err == nil && named && b.form != formNone && a.query.Has("query") {
		err = errors.New("there is a query in its address and one in its body")
	}
	var documents []*document
	for _, q := range all {
		if err != nil {
			break
		}
		var d *document
		if d, err = parseGraphQL(q.text, q.name); err == nil {
			documents = append(documents, d)
			if method == "GET" && d.operation != "query" {
				err = errors.New("only a query may be asked by GET")
			}
		}
	}
	if err != nil {
		return nil, refuse(ruleBody, "the GraphQL request cannot be understood: "+err.Error(), "send one document that is whole, with POST, and name its operation where it has several")
	}
	return documents, nil
}

var errNone = errors.New("it is no GraphQL")

func looksLikeGraphQL(text string) bool {
	text = strings.TrimSpace(text)
	for strings.HasPrefix(text, "#") {
		_, text, _ = strings.Cut(text, "\n")
		text = strings.TrimSpace(text)
	}
	if strings.HasPrefix(text, "{") {
		return true
	}
	for _, word := range []string{"query", "mutation", "subscription", "fragment"} {
		if rest, ok := strings.CutPrefix(text, word); ok && rest != "" && strings.ContainsAny(rest[:1], " \t\r\n{(@,") {
			return strings.Contains(rest, "{")
		}
	}
	return false
}

// parseGraphQL reads a document (spec.graphql.org/October2021), and what of it
// is run.
func parseGraphQL(text, name string) (*document, error) {
	q, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: text}, maxTokens)
	if err != nil {
		return nil, errors.New("it is no GraphQL, or too long")
	}
	var run *ast.OperationDefinition
	for _, o := range q.Operations {
		if name == "" && len(q.Operations) == 1 || name != "" && o.Name == name {
			if run != nil {
				return nil, fmt.Errorf("%q is in it twice", oneLine(name, 60))
			}
			run = o
		}
	}
	if run == nil {
		return nil, errors.New("which of its operations is meant does not show")
	}
	d := &document{operation: string(run.Operation), aliases: map[string][]string{}}
	w := &walk{d: d, fragments: map[string]*ast.FragmentDefinition{}}
	for _, f := range q.Fragments {
		if w.fragments[f.Name] != nil {
			return nil, errors.New("a fragment is in it twice")
		}
		w.fragments[f.Name] = f
	}
	if err := w.set(run.SelectionSet, d.operation, 0, nil); err != nil {
		return nil, err
	}
	if len(d.roots) == 0 || len(d.roots) > maxRoots {
		return nil, fmt.Errorf("it asks for nothing, or for more than %d things at once", maxRoots)
	}
	return d, nil
}

// walk goes through what a document asks for, fragments and all.
type walk struct {
	d         *document
	fragments map[string]*ast.FragmentDefinition
	steps     int
}

func (w *walk) set(set ast.SelectionSet, path string, depth int, within []string) error {
	if depth > maxSelections {
		return errors.New("it is nested too deep")
	}
	for _, s := range set {
		if w.steps++; w.steps > maxTokens {
			return errors.New("it asks for too much")
		}
		var err error
		switch s := s.(type) {
		case *ast.Field:
			at := path + "." + s.Name
			if depth == 0 {
				w.d.roots = append(w.d.roots, s.Name)
			}
			if s.Name == "__schema" || s.Name == "__type" {
				w.d.introspects = true
			}
			if !slices.Contains(w.d.fields, at) && len(w.d.fields) < maxFields {
				w.d.fields = append(w.d.fields, at)
			}
			if s.Alias != "" && s.Alias != s.Name {
				alias := strings.ToLower(s.Alias)
				w.d.aliases[alias] = append(w.d.aliases[alias], strings.ToLower(s.Name))
			}
			err = w.set(s.SelectionSet, at, depth+1, within)
		case *ast.InlineFragment:
			err = w.spread(s.SelectionSet, path, depth, within)
		case *ast.FragmentSpread:
			f := w.fragments[s.Name]
			if f == nil || slices.Contains(within, s.Name) {
				return errors.New("a fragment of it is missing, or holds itself")
			}
			err = w.spread(f.SelectionSet, path, depth, append(slices.Clip(within), s.Name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// spread goes through a fragment's fields, which stand where the fragment does.
func (w *walk) spread(set ast.SelectionSet, path string, depth int, within []string) error {
	if len(within) > maxDepth {
		return errors.New("it is nested too deep")
	}
	return w.set(set, path, depth, within)
}

// effects are what a document does, by its fields' names.
func (d *document) effects(e *effects) {
	if d.introspects {
		e.add("introspection")
	}
	for _, f := range d.fields {
		if w := words(f[strings.LastIndexByte(f, '.')+1:]); has(w, wordsSecret) || keys(w) {
			e.add("secret")
		}
	}
	if d.operation != "mutation" {
		e.add("read")
		return
	}
	for _, root := range d.roots {
		e.action(words(root), false)
	}
}
