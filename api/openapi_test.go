package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"

	"github.com/custos-gateway/custos/approval/notify"
	"github.com/custos-gateway/custos/store"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// route is what the document says of one route, besides its types.
type route struct {
	summary string
	query   []string // names of parameters
	body    any      // a value of its type; a string names a media type
	answer  any      // likewise
	open    bool     // no token is needed
}

// lists are what lists are narrowed by.
var lists = []string{"caller", "connection", "state", "since", "until", "limit", "cursor"}

// routes are all there are: one that is added to New is added here.
var routes = map[string]route{
	"GET /healthz":                         {summary: "Says that the process answers", answer: "text/plain", open: true},
	"GET /readyz":                          {summary: "Says whether the gateway can serve", answer: "text/plain", open: true},
	"GET /.well-known/custos":              {summary: "Says how to log in", answer: Login{}, open: true},
	"GET /metrics":                         {summary: "Metrics for Prometheus; for administrators and auditors", answer: "text/plain"},
	"GET /api/v1/openapi.json":             {summary: "This document", answer: "application/vnd.oai.openapi+json;version=3.1", open: true},
	"GET /api/v1/whoami":                   {summary: "Who the gateway takes the caller for", answer: WhoAmI{}},
	"GET /api/v1/sessions":                 {summary: "List sessions, the newest first", query: lists, answer: Page[store.Session]{}},
	"GET /api/v1/sessions/{id}":            {summary: "Show a session", answer: store.Session{}},
	"GET /api/v1/sessions/{id}/operations": {summary: "List a session's operations, the oldest first", query: []string{"limit", "cursor"}, answer: Page[store.Operation]{}},
	"GET /api/v1/sessions/{id}/operations/{entry}/answer": {summary: "Read what came back of an operation, as a stream of lines; that it was read is put on record. With raw=1, the bytes as they were on the wire", query: []string{"raw"}, answer: "application/x-ndjson"},
	"GET /api/v1/sessions/{id}/replay":                    {summary: "Read a whole session, as a stream of lines; that it was read is put on record", answer: "application/x-ndjson"},
	"GET /api/v1/sessions/{id}/tail":                      {summary: "Follow an open session from now on, as a stream of lines; that it is followed is put on record", answer: "application/x-ndjson"},
	"POST /api/v1/sessions/{id}/stop":                     {summary: "End an open session: one's own, or as an administrator anybody's", answer: struct{}{}},
	"POST /api/v1/sessions/stop":                          {summary: "End all open sessions of a caller", body: stopping{}, answer: Stopped{}},
	"POST /api/v1/sessions/{id}/erase":                    {summary: "Let a recording go; for administrators", body: spoken{}, answer: struct{}{}},
	"POST /api/v1/sessions/{id}/hold":                     {summary: "Put a legal hold on a recording; for administrators", body: spoken{}, answer: struct{}{}},
	"POST /api/v1/sessions/{id}/release":                  {summary: "End a legal hold; for administrators", body: spoken{}, answer: struct{}{}},
	"GET /api/v1/approvals":                               {summary: "List approvals that are pending or were over within a day, the newest first", query: []string{"state"}, answer: Page[Approval]{}},
	"POST /api/v1/approvals":                              {summary: "Ask for leave: for one statement, or for access for a time", body: Asking{}, answer: Approval{}},
	"GET /api/v1/approvals/undelivered":                   {summary: "List messages on approvals that were given up; for administrators and auditors", answer: Page[notify.Undelivered]{}},
	"POST /api/v1/approvals/undelivered/again":            {summary: "Send them once more; for administrators", answer: Again{}},
	"GET /api/v1/approvals/{id}":                          {summary: "Show an approval; with wait=30s, wait for its answer for so long", query: []string{"wait"}, answer: Approval{}},
	"GET /api/v1/approvals/{id}/background":               {summary: "Show what stands around it, to those who are asked", answer: Background{}},
	"POST /api/v1/approvals/{id}/approve":                 {summary: "Approve it", body: spoken{}, answer: Approval{}},
	"POST /api/v1/approvals/{id}/deny":                    {summary: "Deny it; a reason is required", body: spoken{}, answer: Approval{}},
	"POST /api/v1/approvals/{id}/revoke":                  {summary: "End access before its time; a reason is required", body: spoken{}, answer: Approval{}},
	"POST /api/v1/notify/slack":                           {summary: "Takes what Slack sends, signed, and does nothing with it", answer: "text/plain", open: true},
	"GET /api/v1/connections":                             {summary: "List the connections that the caller may use; for administrators, all", answer: []Connection{}},
	"GET /api/v1/connections/{name}":                      {summary: "Show a connection", answer: Connection{}},
	"PUT /api/v1/connections/{name}":                      {summary: "Add or replace a connection; for administrators", body: "application/yaml", answer: Connection{}},
	"DELETE /api/v1/connections/{name}":                   {summary: "Take away a connection that was added at run time; for administrators", answer: struct{}{}},
	"GET /api/v1/connections/{name}/definition":           {summary: "Show what a connection was added with; for administrators", answer: "application/yaml"},
	"POST /api/v1/connections/{name}/test":                {summary: "Log in to the target and out again; for administrators", answer: Tested{}},
	"PUT /api/v1/connections/{name}/secret":               {summary: "Store what a connection logs in with; for administrators", body: "text/plain", answer: struct{}{}},
	"DELETE /api/v1/connections/{name}/secret":            {summary: "Forget it; for administrators", answer: struct{}{}},
	"GET /api/v1/skills":                                  {summary: "List the registered skills; for administrators", answer: []RegisteredSkill{}},
	"GET /api/v1/skills/{name}":                           {summary: "Show a registered skill; for administrators", answer: RegisteredSkill{}},
	"PUT /api/v1/skills/{name}":                           {summary: "Add or replace a skill; for administrators", body: "application/yaml", answer: RegisteredSkill{}},
	"DELETE /api/v1/skills/{name}":                        {summary: "Take away a skill that was added at run time; for administrators", answer: struct{}{}},
	"GET /api/v1/agents":                                  {summary: "List the agents in targets' networks; for administrators", answer: []Agent{}},
	"POST /api/v1/agents/{name}/token":                    {summary: "Make a one-time token with which an agent joins; for administrators", body: tokenRequest{}, answer: AgentToken{}},
	"DELETE /api/v1/agents/{name}":                        {summary: "Let an agent in no more; for administrators", query: []string{"id"}, answer: struct{}{}},
	"GET /api/v1/events":                                  {summary: "Server-sent events: that approvals, or the ledger, have something new", answer: "text/event-stream"},
	"GET /api/v1/search":                                  {summary: "Search every operation on record, the newest first", query: append([]string{"q"}, lists...), answer: Page[store.Operation]{}},
	"GET /api/v1/evidence":                                {summary: "Export a bundle that verifies offline, on the sessions named or chosen", query: append([]string{"session", "sealed"}, lists...), answer: "application/gzip"},
	"GET /api/v1/activity":                                {summary: "Count what was done in the last hours", query: []string{"hours"}, answer: store.Activity{}},
	"GET /api/v1/policies":                                {summary: "List the rules in force; for those with a role", answer: PolicySet{}},
	"POST /api/v1/policies/explain":                       {summary: "Say what the rules decide on a statement; for those with a role", body: Explaining{}, answer: Explanation{}},
	"GET /api/v1/ledger":                                  {summary: "How it stands with the ledger", answer: LedgerState{}},
	"GET /api/v1/ledger/checkpoint":                       {summary: "The latest signed checkpoint (C2SP tlog-checkpoint)", answer: "text/plain"},
	"GET /api/v1/ledger/prove":                            {summary: "Prove that an entry is under it (C2SP tlog-proof)", query: []string{"entry"}, answer: Proof{}},
	"GET /api/v1/ledger/entries":                          {summary: "List entries in order; for administrators and auditors", query: []string{"cursor", "limit"}, answer: Page[LedgerEntry]{}},
	"GET /api/v1/ledger/tile/{path...}":                   {summary: "The ledger's tiles (C2SP tlog-tiles)", answer: "application/octet-stream"},
}

// parameters are what those in a query mean.
var parameters = map[string]string{
	"caller": "A caller's name, subject, or issuer|subject", "connection": "A connection's name", "state": "open, closed or turned-away; of approvals, their state",
	"since": "Not before this time, in RFC 3339", "until": "Before this time, in RFC 3339", "limit": "Items of a page, from 1 to 1000", "cursor": "Where the page begins: next of the page before",
	"q": "Words, \"phrases\", and FIELD:VALUE; a - before any of them means its opposite", "raw": "1: the bytes as they were on the wire", "wait": "A time span of at most 1m, such as 30s",
	"id": "One agent of that name; absent: all of them", "session": "A session's id; may be repeated", "sealed": "1: recordings as they are kept, sealed", "hours": "How many, from 1 to 744", "entry": "An entry's number",
}

// TestOpenAPI holds openapi.json to the routes that there are, and to their
// types.
func TestOpenAPI(t *testing.T) {
	source, err := os.ReadFile("api.go")
	if err != nil {
		t.Fatal(err)
	}
	registered := map[string]bool{}
	for _, m := range regexp.MustCompile(`"((?:GET|POST|PUT|DELETE|PATCH) /[^"]*)"`).FindAllSubmatch(source, -1) {
		registered[string(m[1])] = true
	}
	for pattern := range registered {
		if _, ok := routes[pattern]; !ok {
			t.Errorf("%s is not in the document: add it to routes in openapi_test.go, and run go test ./api -run TestOpenAPI -update", pattern)
		}
	}
	for pattern := range routes {
		if !registered[pattern] {
			t.Errorf("%s is in the document, and not in api.go", pattern)
		}
	}
	want := describe(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(document, want) {
		t.Error("openapi.json is not what the types say: run go test ./api -run TestOpenAPI -update")
	}
}

type object = map[string]any

func describe(t *testing.T) []byte {
	t.Helper()
	schemas := newSchemas(t)
	paths := object{}
	for _, pattern := range slices.Sorted(maps.Keys(routes)) {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.ReplaceAll(path, "...}", "}")
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path].(object)[strings.ToLower(method)] = operation(routes[pattern], method, path, schemas)
	}
	b, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{"title": "custos", "version": "1", "license": object{"name": "MIT", "identifier": "MIT"},
			"description": "Who may do what through the gateway, and who did what. Everyone sees their own sessions; administrators and auditors see all. What a caller may not see looks as if it were not there."},
		"servers":  []object{{"url": "/"}},
		"security": []object{{"token": []string{}}, {"cookie": []string{}}},
		"paths":    paths,
		"components": object{
			"schemas": schemas.all,
			"securitySchemes": object{
				"token":  object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An OIDC token of one of the gateway's issuers"},
				"cookie": object{"type": "apiKey", "in": "cookie", "name": "__Host-custos", "description": "Of a browser that signed in at /signin. What changes anything carries the header Custos-Token as well, with what /signin/token gives to pages of this origin"},
			},
			"responses": object{"problem": object{"description": "What is wrong, and what to do next (RFC 9457)",
				"content": object{"application/problem+json": object{"schema": schemas.of(Problem{})}}}},
		},
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func operation(r route, method, path string, s *schemas) object {
	var params []object
	for _, m := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, name := range r.query {
		params = append(params, object{"name": name, "in": "query", "description": parameters[name], "schema": object{"type": "string"}})
	}
	o := object{"summary": r.summary, "operationId": name(method, path), "responses": object{
		"200": object{"description": "It is done", "content": s.content(r.answer)}, "default": object{"$ref": "#/components/responses/problem"}}}
	if params != nil {
		o["parameters"] = params
	}
	if r.body != nil {
		o["requestBody"] = object{"content": s.content(r.body)}
	}
	if r.open {
		o["security"] = []object{}
	}
	return o
}

// name is an operation's name, such as getSessionsIdReplay.
func name(method, path string) string {
	out := strings.ToLower(method)
	for _, word := range regexp.MustCompile(`\w+`).FindAllString(strings.TrimPrefix(path, "/api/v1"), -1) {
		out += strings.ToUpper(word[:1]) + word[1:]
	}
	return out
}

// schemas are those of Go's types.
type schemas struct {
	t         *testing.T
	reflector *jsonschema.Reflector
	all       object
}

func newSchemas(t *testing.T) *schemas {
	t.Helper()
	r := &jsonschema.Reflector{Anonymous: true, AllowAdditionalProperties: true, Namer: typeName}
	for _, dir := range []string{".", "../store"} {
		if err := r.AddGoComments("github.com/custos-gateway/custos/api", dir); err != nil {
			t.Fatal(err)
		}
	}
	return &schemas{t, r, object{}}
}

// typeName is a type's name in the document. Those of the package that is made
// of others say of which.
func typeName(t reflect.Type) string {
	name := t.Name()
	if of, inner, generic := strings.Cut(name, "["); generic {
		inner = strings.TrimSuffix(inner, "]")
		return of + "Of" + inner[strings.LastIndex(inner, ".")+1:]
	}
	return strings.ToUpper(name[:min(len(name), 1)]) + name[min(len(name), 1):]
}

func (s *schemas) content(v any) object {
	switch media, ok := v.(string); {
	case media == "application/x-ndjson":
		return object{media: object{"schema": s.of(Line{})}} // each line is one
	case ok:
		return object{media: object{}}
	}
	return object{"application/json": object{"schema": s.of(v)}}
}

// of is a reference to the schema of a value's type.
func (s *schemas) of(v any) object {
	s.t.Helper()
	b, err := json.Marshal(s.reflector.Reflect(v))
	if err != nil {
		s.t.Fatal(err)
	}
	var schema object
	if err := json.Unmarshal(bytes.ReplaceAll(b, []byte("#/$defs/"), []byte("#/components/schemas/")), &schema); err != nil {
		s.t.Fatal(err)
	}
	defs, _ := schema["$defs"].(object)
	for name, def := range defs {
		if was, ok := s.all[name]; ok && !reflect.DeepEqual(was, def) {
			s.t.Fatalf("two types are named %s in the document", name)
		}
		s.all[name] = def
	}
	delete(schema, "$defs")
	delete(schema, "$schema")
	return schema
}
