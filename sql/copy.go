package sql

import (
	"bytes"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// CopyForm is the form of a COPY's lines (COPY, section "File Formats").
type CopyForm struct {
	CSV           bool
	Delimiter     byte
	Null          string
	Quote, Escape byte // of CSV
	Header        bool
}

// copyForm reads the options of a COPY. A form whose options it does not know
// has no delimiter, and nothing is split by it.
func copyForm(s *pg.CopyStmt) CopyForm {
	f := CopyForm{Delimiter: '\t', Null: `\N`, Quote: '"'}
	delimiter, null, escape := "", "", ""
	hasNull := false
	for _, option := range s.Options {
		o := option.GetDefElem()
		text := o.GetArg().GetString_().GetSval()
		switch strings.ToLower(o.GetDefname()) {
		case "format":
			switch strings.ToLower(text) {
			case "csv":
				f.CSV = true
			case "text", "binary":
			default:
				return CopyForm{}
			}
		case "delimiter":
			delimiter = text
		case "null":
			null, hasNull = text, true
		case "quote":
			if len(text) != 1 {
				return CopyForm{}
			}
			f.Quote = text[0]
		case "escape":
			escape = text
		case "header":
			f.Header = !(text == "false" || text == "off" || o.GetArg().GetInteger() != nil && o.GetArg().GetInteger().Ival == 0 ||
				o.GetArg().GetBoolean() != nil && !o.GetArg().GetBoolean().Boolval)
		case "freeze", "force_quote", "force_not_null", "force_null":
		default: // such as an encoding
			return CopyForm{}
		}
	}
	if f.CSV {
		f.Delimiter, f.Null = ',', ""
	}
	if len(delimiter) == 1 {
		f.Delimiter = delimiter[0]
	} else if delimiter != "" {
		return CopyForm{}
	}
	if hasNull {
		f.Null = null
	}
	if f.Escape = f.Quote; len(escape) == 1 {
		f.Escape = escape[0]
	}
	return f
}

// Split cuts a line into its values, as they stand in it.
func (f *CopyForm) Split(line []byte) (values [][]byte, ok bool) {
	if f.Delimiter == 0 {
		return nil, false
	}
	start, quoted := 0, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case f.CSV && quoted && c == f.Escape && i+1 < len(line) && (line[i+1] == f.Quote || line[i+1] == f.Escape):
			i++
		case f.CSV && c == f.Quote:
			quoted = !quoted
		case !f.CSV && c == '\\':
			i++
		case c == f.Delimiter && !quoted:
			values = append(values, line[start:i])
			start = i + 1
		}
	}
	return append(values, line[start:]), !quoted
}

// Value is what a value that Split returned stands for, near enough to be
// hidden.
func (f *CopyForm) Value(raw []byte) []byte {
	if f.CSV {
		if n := len(raw); n >= 2 && raw[0] == f.Quote && raw[n-1] == f.Quote {
			return bytes.ReplaceAll(raw[1:n-1], []byte{f.Escape, f.Quote}, []byte{f.Quote})
		}
		return raw
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' && i+1 < len(raw) {
			i++
			switch c = raw[i]; c {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case 'r':
				c = '\r'
			}
		}
		out = append(out, c)
	}
	return out
}

// Append appends a value as it stands in a line.
func (f *CopyForm) Append(dst, value []byte) []byte {
	if f.CSV {
		dst = append(dst, f.Quote)
		for _, c := range value {
			if c == f.Quote || c == f.Escape {
				dst = append(dst, f.Escape)
			}
			dst = append(dst, c)
		}
		return append(dst, f.Quote)
	}
	for _, c := range value {
		switch {
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\\' || c == f.Delimiter:
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
