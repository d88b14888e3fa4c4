package sql

import (
	"crypto/sha256"
	"encoding/hex"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// fingerprint returns what statements have in common that differ in constants,
// in how many of them a list holds, in spacing, comments and case only.
func fingerprint(statements []*pg.RawStmt) string {
	f := printer{}
	for _, s := range statements {
		f.message(s.Stmt.ProtoReflect())
		f.dst = append(f.dst, 0)
	}
	sum := sha256.Sum256(f.dst)
	return hex.EncodeToString(sum[:8])
}

// printer writes a parse tree without its constants and places.
type printer struct{ dst []byte }

// constant reports a constant or parameter.
func constant(m protoreflect.Message) bool {
	n, ok := m.Interface().(*pg.Node)
	if !ok {
		return false
	}
	if e := n.GetAExpr(); e != nil && e.Lexpr == nil && e.Rexpr != nil && last(words(e.Name)) == "-" {
		return constant(e.Rexpr.ProtoReflect())
	}
	return n.GetAConst() != nil || n.GetParamRef() != nil
}

func (f *printer) message(m protoreflect.Message) {
	if constant(m) {
		f.dst = append(f.dst, '?')
		return
	}
	f.dst = append(f.dst, m.Descriptor().Name()...)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if name := field.Name(); !m.Has(field) || name == "location" || name == "stmt_location" || name == "stmt_len" || name == "name_location" {
			continue
		}
		f.dst = protowire.AppendVarint(f.dst, uint64(field.Number()))
		switch v := m.Get(field); {
		case field.IsList() && field.Message() != nil:
			f.list(v.List())
		case field.IsList():
			for j := range v.List().Len() {
				f.dst = append(append(f.dst, v.List().Get(j).String()...), 0)
			}
		case field.Message() != nil:
			f.message(v.Message())
		default:
			f.dst = append(append(f.dst, v.String()...), 0)
		}
	}
	f.dst = append(f.dst, 0)
}

// list writes what is repeated without a difference once: constants, and rows
// of them.
func (f *printer) list(l protoreflect.List) {
	before := -1 // where the last one that was written begins
	for i := range l.Len() {
		start := len(f.dst)
		f.message(l.Get(i).Message())
		if before >= 0 && string(f.dst[before:start]) == string(f.dst[start:]) {
			f.dst = f.dst[:start]
			continue
		}
		before = start
	}
	f.dst = append(f.dst, 0)
}
