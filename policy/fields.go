package policy

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/custos-gateway/custos"
)

// question is what a condition is asked of: the variables of CEL.
type question struct {
	caller     *custos.Principal
	connection *custos.Connection
	operation  *custos.Operation
	facts      *custos.Facts
	usage      *custos.Usage
	masked     *maskedFacts
	now        time.Time
	// effects is the list of CEL for facts.Effects: most rules ask for it.
	effects ref.Val
}

func (q *question) effectList() any {
	if q.effects == nil {
		q.effects = types.NewStringList(types.DefaultTypeAdapter, q.facts.Effects)
	}
	return q.effects
}

var (
	noFacts  custos.Facts
	noUsage  custos.Usage
	noCaller custos.Principal
)

// ResolveName is of cel.Activation.
func (q *question) ResolveName(name string) (any, bool) {
	switch name {
	case "caller":
		return q.caller, true
	case "connection":
		return q.connection, true
	case "operation":
		return q, true
	case "masked":
		return q.masked, true
	case "usage":
		return q.usage, true
	case "now":
		return types.Timestamp{Time: q.now.UTC()}, true
	}
	return nil, false
}

// Parent is of cel.Activation.
func (*question) Parent() cel.Activation { return nil }

// field is one field of an object that conditions see.
type field struct {
	name  string
	typ   *cel.Type
	means string
	get   func(any) (any, error)
}

// object is a variable of conditions with fields.
type object struct {
	typ    *cel.Type
	means  string
	fields []field
}

// of makes a field of objects of type T.
func of[T any](name string, typ *cel.Type, means string, get func(T) any) field {
	return field{name, typ, means, func(target any) (any, error) {
		t, ok := target.(T)
		if !ok {
			return nil, fmt.Errorf("read field %s: of %T", name, target)
		}
		return get(t), nil
	}}
}

func objectType(name string) *cel.Type { return cel.ObjectType("custos." + name) }

var (
	str     = cel.StringType
	strs    = cel.ListType(cel.StringType)
	callerT = objectType("Caller")
	countsT = objectType("Counts")
)

// maxText bounds what conditions may search of a statement or its parameters,
// in bytes: a rule that asks for more refuses.
const maxText = 1 << 20

var objects = []object{
	{callerT, "Who asks.", []field{
		of("issuer", str, "The issuer of the caller's token.", func(p *custos.Principal) any { return p.Issuer }),
		of("subject", str, "The caller's identity at that issuer.", func(p *custos.Principal) any { return p.Subject }),
		of("name", str, "What people call the caller. It is for reading: an issuer may let callers choose it.", func(p *custos.Principal) any { return p.Name }),
		of("kind", str, "person, skill, ci or workload.", func(p *custos.Principal) any { return string(p.Kind) }),
		of("skill", str, "The name of the registered skill that the caller is, by skills in the configuration; empty: it is none.", func(p *custos.Principal) any {
			if p.Skill == nil {
				return ""
			}
			return p.Skill.Name
		}),
		of("groups", strs, "The caller's groups.", func(p *custos.Principal) any { return p.Groups }),
		of("on_behalf_of", callerT, "For whom the caller acts; has(caller.on_behalf_of) says whether there is one.", func(p *custos.Principal) any {
			if p.OnBehalfOf == nil {
				return &noCaller
			}
			return p.OnBehalfOf
		}),
	}},
	{objectType("Connection"), "The target.", []field{
		of("name", str, "The connection's name.", func(c *custos.Connection) any { return c.Name }),
		of("protocol", str, "Its protocol, such as postgres.", func(c *custos.Connection) any { return c.Protocol }),
		of("database", str, "The target's own database name.", func(c *custos.Connection) any { return c.Database }),
		of("labels", cel.MapType(str, str), "Its labels. Ask has(connection.labels.env) first of one that may be absent.", func(c *custos.Connection) any { return c.Labels }),
	}},
	{objectType("Operation"), "What is asked for, as the protocol understood it.", []field{
		of("class", str, "The protocol's name of the message, such as Query.", func(q *question) any { return q.operation.Class }),
		of("verbs", strs, "What it does, such as SELECT.", func(q *question) any { return q.operation.Verbs }),
		of("objects", strs, "What it touches, such as public.customers.", func(q *question) any { return q.operation.Objects }),
		of("writes", cel.BoolType, "It may change the target; true where that is not known.", func(q *question) any { return q.operation.Writes }),
		of("effects", strs, "What it does, of the list below.", (*question).effectList),
		of("columns", strs, "The stored columns that it reads, as schema.table.column.", func(q *question) any { return q.facts.Columns }),
		of("predicates", strs, "The columns by which it chooses, joins, groups, orders or tells rows apart. One that is only compared for equality with what a mask put in its place is not among them.", func(q *question) any { return q.facts.Predicates }),
		of("changed", strs, "The columns that it writes.", func(q *question) any { return q.facts.Changed }),
		of("copied", strs, "The columns whose values it writes into other columns.", func(q *question) any { return q.facts.Copied }),
		of("attributes", cel.MapType(str, strs), "What else its protocol says of it, by the names below; one that it does not say is an empty list.", func(q *question) any { return attributeMap{q.facts.Attributes} }),
		of("fingerprint", str, "The same for operations that differ in constants only.", func(q *question) any { return q.facts.Fingerprint }),
		of("unknown", strs, "What could not be known of it, in words.", func(q *question) any { return q.facts.Unknown }),
		{"text", str, "The statement, to its first MiB; a rule that asks of a longer one refuses.", getText},
		{"params", strs, "The values bound to it: text as it is, binary as \\x and hexadecimal, null as empty. Bounded as text is.", getParams},
	}},
	{objectType("Masked"), "What of the operation a mask hides from this caller.", []field{
		of("columns", strs, "Those of operation.columns.", func(m *maskedFacts) any { return m.columns }),
		of("predicates", strs, "Those of operation.predicates: what an answer would tell of them without showing them.", func(m *maskedFacts) any { return m.predicates }),
		of("copied", strs, "Those of operation.copied: where they would be in the clear.", func(m *maskedFacts) any { return m.copied }),
	}},
	{objectType("Usage"), "What was taken before this operation, for budgets.", []field{
		of("session", countsT, "By this session.", func(u *custos.Usage) any { return &u.Session }),
		of("hour", countsT, "By this caller on this connection in the last hour.", func(u *custos.Usage) any { return &u.Hour }),
		of("day", countsT, "By this caller on this connection in the last 24 hours.", func(u *custos.Usage) any { return &u.Day }),
		of("repeats", cel.IntType, "How often this operation is among the session's last 64, itself included.", func(u *custos.Usage) any { return u.Repeats }),
		of("granted", cel.BoolType, "Access for a time that was approved covers this operation. Access by a broken glass does not count.", func(u *custos.Usage) any { return u.Granted }),
	}},
	{countsT, "", []field{
		of("operations", cel.IntType, "Operations.", func(c *custos.Counts) any { return c.Operations }),
		of("writes", cel.IntType, "Those that may have changed the target.", func(c *custos.Counts) any { return c.Writes }),
		of("refused", cel.IntType, "Those that were refused.", func(c *custos.Counts) any { return c.Refused }),
		of("rows", cel.IntType, "Rows of answers.", func(c *custos.Counts) any { return c.Rows }),
		of("bytes", cel.IntType, "Bytes of answers.", func(c *custos.Counts) any { return c.Bytes }),
	}},
}

func getText(target any) (any, error) {
	q, ok := target.(*question)
	if !ok {
		return nil, fmt.Errorf("read field text: of %T", target)
	}
	if len(q.operation.Text) > maxText {
		return nil, fmt.Errorf("the statement is longer than %d bytes, which a rule does not search", maxText)
	}
	return q.operation.Text, nil
}

func getParams(target any) (any, error) {
	q, ok := target.(*question)
	if !ok {
		return nil, fmt.Errorf("read field params: of %T", target)
	}
	total := 0
	for i := range q.operation.Params {
		total += len(q.operation.Params[i].Value)
	}
	if total > maxText {
		return nil, fmt.Errorf("the parameters are longer than %d bytes, which a rule does not search", maxText)
	}
	out := make([]string, len(q.operation.Params))
	for i := range q.operation.Params {
		if p := &q.operation.Params[i]; p.Binary {
			out[i] = `\x` + hex.EncodeToString(p.Value)
		} else {
			out[i] = string(p.Value)
		}
	}
	return out, nil
}

// variables are the names that conditions know.
var variables = []struct {
	name string
	typ  *cel.Type
}{
	{"caller", callerT}, {"connection", objectType("Connection")}, {"operation", objectType("Operation")},
	{"masked", objectType("Masked")}, {"usage", objectType("Usage")}, {"now", cel.TimestampType},
}

// provider tells CEL of objects. The registry below it knows everything else.
type provider struct{ *types.Registry }

func findObject(name string) *object {
	for i := range objects {
		if objects[i].typ.TypeName() == name {
			return &objects[i]
		}
	}
	return nil
}

// FindStructType is of types.Provider.
func (p provider) FindStructType(name string) (*types.Type, bool) {
	if o := findObject(name); o != nil {
		return types.NewTypeTypeWithParam(o.typ), true
	}
	return p.Registry.FindStructType(name)
}

// FindStructFieldNames is of types.Provider.
func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	o := findObject(name)
	if o == nil {
		return p.Registry.FindStructFieldNames(name)
	}
	names := make([]string, len(o.fields))
	for i, f := range o.fields {
		names[i] = f.name
	}
	return names, true
}

// FindStructFieldType is of types.Provider.
func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	o := findObject(name)
	if o == nil {
		return p.Registry.FindStructFieldType(name, field)
	}
	for i := range o.fields {
		if f := &o.fields[i]; f.name == field {
			return &types.FieldType{Type: f.typ, GetFrom: f.get, IsSet: func(target any) bool { return isSet(target, field) }}, true
		}
	}
	return nil, false
}

// isSet answers has(): every field is there but the caller behind a caller.
func isSet(target any, field string) bool {
	p, ok := target.(*custos.Principal)
	return !ok || field != "on_behalf_of" || p.OnBehalfOf != nil
}

// fieldNames lists the fields of the object that name is, for errors.
func fieldNames(o *object) string {
	names := make([]string, len(o.fields))
	for i, f := range o.fields {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}
