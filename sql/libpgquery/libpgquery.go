// Package libpgquery runs libpg_query, which is PostgreSQL's own parser, in a
// WebAssembly sandbox: what a caller writes cannot take down the gateway, and
// one static binary is enough.
//
// libpg_query.wasm is the build of github.com/wasilibs/go-pgquery. That
// module's own driver puts an instance back into its pool after a trap, such
// as the stack overflow that a deeply nested statement causes, and the next
// caller then hangs. This one throws the instance away, compiles the code
// once, and bounds how many instances there are and how much memory each may
// take. See docs/adr/0002-sql-parser.md.
package libpgquery

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/wasilibs/wazero-helpers/allocator"
)

//go:embed libpg_query.wasm
var code []byte

const (
	// maxMemory bounds what one instance may take, in bytes. PostgreSQL's
	// allocator answers with an "out of memory" error beyond it.
	maxMemory = 512 << 20
	// An instance that has grown beyond this is not kept: WebAssembly memory
	// never shrinks.
	keptMemory = 64 << 20
	// standardTimeout bounds one call: a megabyte of SQL takes a few seconds.
	standardTimeout = 10 * time.Second
)

// ErrTrap is the error of a text that the parser's sandbox could not finish,
// for lack of stack, memory or time.
var ErrTrap = errors.New("the parser ran out of stack, memory or time")

// SyntaxError is what PostgreSQL says of a text that is not its SQL.
type SyntaxError struct {
	Message string
	// Position is the character where it was noticed, from 1; 0: not known.
	Position int
}

func (e *SyntaxError) Error() string {
	if e.Position == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (character %d)", e.Message, e.Position)
}

// Parser is a pool of instances. It is safe for concurrent use.
type Parser struct {
	// Each slot is an idle instance, or nil where none was made yet or the
	// last one was thrown away. Taking a slot is the right to parse.
	slots   chan *instance
	timeout time.Duration
}

type program struct {
	runtime wazero.Runtime
	module  wazero.CompiledModule
}

// New returns a parser of at most n instances, made when they are needed.
func New(n int) *Parser {
	p := &Parser{slots: make(chan *instance, n), timeout: standardTimeout}
	for range n {
		p.slots <- nil
	}
	return p
}

// compiled is the code, made once for the process: it takes a second and more
// of a processor, and tens of megabytes.
var compiled = sync.OnceValues(compile)

func compile() (*program, error) {
	ctx := context.Background()
	// Being asked for its end in every loop makes the code about four times
	// slower, and is what lets Go stop it: code that could not be stopped would
	// hold up the garbage collector, and with it every session, for as long as
	// a text takes.
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCloseOnContextDone(true).
		WithCoreFeatures(api.CoreFeaturesV2|experimental.CoreFeaturesThreads))
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return nil, err
	}
	if err := exportHost(ctx, r); err != nil {
		return nil, err
	}
	module, err := r.CompileModule(ctx, code)
	if err != nil {
		return nil, err
	}
	return &program{r, module}, nil
}

// Warm makes every instance that is not there yet, so that no caller waits
// for it: about a second and a half of one processor for the first.
func (p *Parser) Warm() error {
	var made []*instance
	var err error
	for range cap(p.slots) {
		in := <-p.slots
		if in == nil && err == nil {
			in, err = p.instantiate()
		}
		made = append(made, in)
	}
	for _, in := range made {
		p.slots <- in
	}
	return err
}

// Parse returns the parse tree of text, a ParseResult of pg_query.proto in
// protobuf. Its errors are *SyntaxError, ErrTrap, or that of a sandbox that
// cannot be made. Text must hold no NUL byte: PostgreSQL's parser ends there.
func (p *Parser) Parse(text string) (tree []byte, err error) {
	return p.call(text, protobuf)
}

// ParsePlpgsql returns the parse trees, as JSON, of the PL/pgSQL in text, which
// is a CREATE FUNCTION or a DO. Its errors are those of Parse.
func (p *Parser) ParsePlpgsql(text string) (trees []byte, err error) {
	return p.call(text, plpgsql)
}

// form is one of libpg_query's functions, and how it gives its result back.
type form struct {
	function, release string
	// The result's size, and where in it the length of the data is, the data
	// and the error; sized is false where the data end with a NUL.
	size, length, data, failure uint32
	sized                       bool
}

var (
	// PgQueryProtobufParseResult {PgQueryProtobuf {size_t len; char *data};
	// char *stderr_buffer; PgQueryError *error}.
	protobuf = form{"pg_query_parse_protobuf", "pg_query_free_protobuf_parse_result", 16, 0, 4, 12, true}
	// PgQueryPlpgsqlParseResult {char *plpgsql_funcs; PgQueryError *error}.
	plpgsql = form{"pg_query_parse_plpgsql", "pg_query_free_plpgsql_parse_result", 8, 0, 0, 4, false}
)

func (p *Parser) call(text string, f form) (tree []byte, err error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, &SyntaxError{Message: "a NUL byte in the text"}
	}
	in := <-p.slots
	defer func() { p.slots <- in }()
	if in == nil {
		if in, err = p.instantiate(); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(hostContext(), p.timeout)
	defer cancel()
	tree, err = in.parse(ctx, text, f)
	var syntax *SyntaxError
	broken := err != nil && !errors.As(err, &syntax)
	if broken || in.module.Memory().Size() > keptMemory {
		in.module.Close(context.Background())
		in = nil
	}
	return tree, err
}

// instance is one sandbox. It serves one call at a time.
type instance struct {
	module       api.Module
	malloc, free api.Function
}

func (p *Parser) instantiate() (*instance, error) {
	program, err := compiled()
	if err != nil {
		return nil, fmt.Errorf("compile SQL parser: %w", err)
	}
	ctx := experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(allocate))
	module, err := program.runtime.InstantiateModule(ctx, program.module,
		wazero.NewModuleConfig().WithName("").WithSysNanotime().WithStartFunctions("_initialize"))
	if err != nil {
		return nil, fmt.Errorf("start SQL parser: %w", err)
	}
	in := &instance{
		module: module,
		malloc: module.ExportedFunction("malloc"),
		free:   module.ExportedFunction("free"),
	}
	if _, err := module.ExportedFunction("pg_query_init").Call(hostContext()); err != nil {
		module.Close(ctx)
		return nil, fmt.Errorf("start SQL parser: %w", err)
	}
	return in, nil
}

// boundedMemory refuses to grow beyond maxMemory.
type boundedMemory struct{ experimental.LinearMemory }

func (m boundedMemory) Reallocate(size uint64) []byte {
	if size > maxMemory {
		return nil
	}
	return m.LinearMemory.Reallocate(size)
}

func allocate(capacity, most uint64) experimental.LinearMemory {
	return boundedMemory{allocator.NewNonMoving().Allocate(capacity, most)}
}

// parse calls one of libpg_query's functions. After any error but a *SyntaxError the
// instance is in no known state and must not be used again.
func (in *instance) parse(ctx context.Context, text string, f form) ([]byte, error) {
	memory := in.module.Memory()
	// The result, then the text and its NUL.
	ret, err := in.malloc.Call(ctx, uint64(int(f.size)+len(text)+1))
	if err != nil || ret[0] == 0 {
		return nil, ErrTrap
	}
	result := uint32(ret[0])
	input := result + f.size
	if !memory.WriteString(input, text) || !memory.WriteByte(input+uint32(len(text)), 0) {
		return nil, ErrTrap
	}
	// The function is looked up for each call, for it comes with a stack of its
	// own: one that a deep text has grown to megabytes would be copied by every
	// setjmp of the texts after it.
	parse := in.module.ExportedFunction(f.function)
	if _, err := parse.Call(ctx, uint64(result), uint64(input)); err != nil {
		return nil, ErrTrap
	}
	tree, parseErr := in.result(result, f)
	if _, err := in.module.ExportedFunction(f.release).Call(ctx, uint64(result)); err != nil {
		return nil, ErrTrap
	}
	if _, err := in.free.Call(ctx, uint64(result)); err != nil {
		return nil, ErrTrap
	}
	return tree, parseErr
}

// result reads what the call left at address. Memory that is not there is
// read as a trap.
func (in *instance) result(address uint32, f form) ([]byte, error) {
	memory := in.module.Memory()
	size, ok1 := memory.ReadUint32Le(address + f.length)
	data, ok2 := memory.ReadUint32Le(address + f.data)
	failure, ok3 := memory.ReadUint32Le(address + f.failure)
	if !ok1 || !ok2 || !ok3 {
		return nil, ErrTrap
	}
	if failure == 0 && !f.sized {
		rest, ok := memory.Read(data, memory.Size()-data)
		end := bytes.IndexByte(rest, 0)
		if !ok || end < 0 {
			return nil, ErrTrap
		}
		return bytes.Clone(rest[:end]), nil
	}
	if failure == 0 {
		tree, ok := memory.Read(data, size)
		if !ok {
			return nil, ErrTrap
		}
		return bytes.Clone(tree), nil
	}
	// PgQueryError {char *message, *funcname, *filename; int lineno,
	// cursorpos; char *context}.
	message, ok1 := memory.ReadUint32Le(failure)
	position, ok2 := memory.ReadUint32Le(failure + 16)
	if !ok1 || !ok2 {
		return nil, ErrTrap
	}
	const longest = 1 << 10 // of a message, in bytes; it may quote the text
	view, ok := memory.Read(message, min(longest, memory.Size()-message))
	if !ok {
		return nil, ErrTrap
	}
	view, _, _ = bytes.Cut(view, []byte{0})
	return nil, &SyntaxError{Message: strings.ToValidUTF8(string(view), "\uFFFD"), Position: int(int32(position))}
}
