package policy

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the time zones, where the machine has none

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// clockwork are CEL's functions that read a timestamp as a clock and calendar
// show it, in UTC or in a time zone that is given.
var clockwork = map[string]bool{
	overloads.TimeGetFullYear: true, overloads.TimeGetMonth: true, overloads.TimeGetDayOfYear: true,
	overloads.TimeGetDate: true, overloads.TimeGetDayOfMonth: true, overloads.TimeGetDayOfWeek: true,
	overloads.TimeGetHours: true, overloads.TimeGetMinutes: true, overloads.TimeGetSeconds: true, overloads.TimeGetMilliseconds: true,
}

// clock looks a time zone up while compiling: CEL would read it from a file
// each time, and tell of a wrong one only then.
func (s *scan) clock(e ast.NavigableExpr) {
	call := e.AsCall()
	if !clockwork[call.FunctionName()] || len(call.Args()) != 1 {
		return
	}
	name, ok := call.Args()[0], false
	if name.Kind() == ast.LiteralKind {
		var text string
		if text, ok = name.AsLiteral().Value().(string); ok {
			if _, err := zone(text); err != nil {
				s.fail(name.ID(), "%v", err)
			}
		}
	}
	if !ok {
		s.fail(name.ID(), "name the time zone itself here, such as \"Europe/Berlin\"")
	}
}

// zone returns the time zone of a name, or of an offset such as +02:00.
func zone(name string) (*time.Location, error) {
	if strings.Contains(name, ":") {
		at, err := time.Parse("-07:00", name)
		if err != nil {
			return nil, fmt.Errorf("there is no time zone %q: want one such as Europe/Berlin or +02:00", name)
		}
		_, offset := at.Zone()
		return time.FixedZone(name, offset), nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("there is no time zone %q: want one such as Europe/Berlin or +02:00", name)
	}
	return loc, nil
}

// zoned is a call of clockwork whose time zone is known.
type zoned struct {
	interpreter.InterpretableCall
	at interpreter.InterpretableV2
	in *time.Location
}

// inZones has calls of clockwork use the time zones found while compiling.
var inZones = cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok || !clockwork[call.Function()] || len(call.Args()) != 2 {
		return i, nil
	}
	name, ok := call.Args()[1].(interpreter.InterpretableConst)
	if !ok {
		return i, nil
	}
	in, err := zone(fmt.Sprint(name.Value().Value()))
	if err != nil {
		return nil, err
	}
	return &zoned{call, call.Args()[0], in}, nil
})

// Exec is of interpreter.InterpretableV2.
func (z *zoned) Exec(frame *interpreter.ExecutionFrame) ref.Val { return z.read(z.at.Exec(frame)) }

// Eval is of interpreter.Interpretable.
func (z *zoned) Eval(vars interpreter.Activation) ref.Val { return z.read(z.at.Eval(vars)) }

// read asks the UTC clock of a time at which it shows what the zone's shows.
func (z *zoned) read(at ref.Val) ref.Val {
	t, ok := at.(types.Timestamp)
	if !ok {
		return types.MaybeNoSuchOverloadErr(at)
	}
	_, offset := t.In(z.in).Zone()
	shown := types.Timestamp{Time: t.UTC().Add(time.Duration(offset) * time.Second)}
	return shown.Receive(z.Function(), z.OverloadID(), nil)
}
