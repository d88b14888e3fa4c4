package policy

import (
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// attributeMap is an operation's attributes as a map of CEL, in which a name
// that the operation does not have stands for no values: a rule that asks for
// it is no error.
type attributeMap struct{ values map[string][]string }

var _ traits.Mapper = attributeMap{}

func (m attributeMap) list(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok || !isAttribute(string(name)) {
		return nil, false
	}
	return types.NewStringList(types.DefaultTypeAdapter, m.values[string(name)]), true
}

// Find is of traits.Mapper.
func (m attributeMap) Find(key ref.Val) (ref.Val, bool) { return m.list(key) }

// Get is of traits.Indexer.
func (m attributeMap) Get(key ref.Val) ref.Val {
	if v, ok := m.list(key); ok {
		return v
	}
	return types.NewErr("no such attribute: %v", key)
}

// Contains is of traits.Container: it asks whether there is a value.
func (m attributeMap) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	return types.Bool(ok && len(m.values[string(name)]) > 0)
}

func (m attributeMap) plain() ref.Val {
	return types.NewDynamicMap(types.DefaultTypeAdapter, m.values)
}

// Iterator is of traits.Iterable.
func (m attributeMap) Iterator() traits.Iterator { return m.plain().(traits.Iterable).Iterator() }

// Size is of traits.Sizer.
func (m attributeMap) Size() ref.Val { return types.Int(len(m.values)) }

// ConvertToNative is of ref.Val.
func (m attributeMap) ConvertToNative(t reflect.Type) (any, error) {
	return m.plain().ConvertToNative(t)
}

// ConvertToType is of ref.Val.
func (m attributeMap) ConvertToType(t ref.Type) ref.Val { return m.plain().ConvertToType(t) }

// Equal is of ref.Val.
func (m attributeMap) Equal(other ref.Val) ref.Val { return m.plain().Equal(other) }

// Type is of ref.Val.
func (attributeMap) Type() ref.Type { return types.MapType }

// Value is of ref.Val.
func (m attributeMap) Value() any { return m.values }
