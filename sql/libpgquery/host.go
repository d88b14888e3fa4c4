package libpgquery

import (
	"bytes"
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// The module is built for WASIX, whose stack_checkpoint and stack_restore are
// setjmp and longjmp: PostgreSQL raises its errors by them. What else it
// imports is for threads and signals, which it does not use here: calling one
// of those panics, which wazero turns into a trap of the instance.

// checkpoint is one setjmp.
type checkpoint struct {
	snapshot experimental.Snapshot
	result   uint32 // where setjmp's result goes
	pointer  uint32 // the C stack's top
	stack    []byte // the C stack
}

// call is what the host keeps for one call into the module.
type call struct{ checkpoints []checkpoint }

type callKey struct{}

// hostContext is the context of one call into the module.
func hostContext() context.Context {
	return context.WithValue(experimental.WithSnapshotter(context.Background()), callKey{}, new(call))
}

// must ends the call where the module handed over an address outside its
// memory.
func must(ok bool) {
	if !ok {
		panic("libpg_query: address out of its memory")
	}
}

func setjmp(ctx context.Context, module api.Module, stack []uint64) {
	handle, result := uint32(stack[0]), uint32(stack[1])
	pointer := uint32(module.ExportedGlobal("__stack_pointer").Get())
	base := uint32(module.ExportedGlobal("__heap_base").Get())
	view, ok := module.Memory().Read(pointer, base-pointer)
	must(ok)
	c := ctx.Value(callKey{}).(*call)
	// StackSnapshot {u64 user; u128 hash}: user is ours, the index.
	must(module.Memory().WriteUint64Le(handle, uint64(len(c.checkpoints))))
	must(module.Memory().WriteUint64Le(result, 0))
	c.checkpoints = append(c.checkpoints, checkpoint{
		snapshot: experimental.GetSnapshotter(ctx).Snapshot(),
		result:   result, pointer: pointer, stack: bytes.Clone(view),
	})
	stack[0] = 0
}

func longjmp(ctx context.Context, module api.Module, stack []uint64) {
	index, ok := module.Memory().ReadUint64Le(uint32(stack[0]))
	c := ctx.Value(callKey{}).(*call)
	must(ok && index < uint64(len(c.checkpoints)))
	to := c.checkpoints[index]
	module.ExportedGlobal("__stack_pointer").(api.MutableGlobal).Set(uint64(to.pointer))
	must(module.Memory().Write(to.pointer, to.stack))
	must(module.Memory().WriteUint64Le(to.result, stack[1]))
	stack[0] = 0
	to.snapshot.Restore(stack[:1])
}

func processID(_ context.Context, module api.Module, stack []uint64) {
	must(module.Memory().WriteUint32Le(uint32(stack[0]), 1))
	stack[0] = 0
}

func exportHost(ctx context.Context, r wazero.Runtime) error {
	const i32, i64 = api.ValueTypeI32, api.ValueTypeI64
	two, one := []api.ValueType{i32, i32}, []api.ValueType{i32}
	b := r.NewHostModuleBuilder("wasix_32v1")
	for _, f := range []struct {
		name            string
		call            api.GoModuleFunc
		params, results []api.ValueType
	}{
		{"stack_checkpoint", setjmp, two, one},
		{"stack_restore", longjmp, []api.ValueType{i32, i64}, nil},
		{"proc_id", processID, one, one},
		{"callback_signal", nil, two, nil},
		{"futex_wait", nil, []api.ValueType{i32, i32, i32, i32}, one},
		{"futex_wake", nil, two, one},
		{"futex_wake_all", nil, two, one},
		{"thread_exit", nil, one, nil},
		{"thread_signal", nil, two, one},
	} {
		fn := f.call
		if fn == nil {
			fn = func(context.Context, api.Module, []uint64) {
				panic("libpg_query: " + f.name + " is not for it to call")
			}
		}
		b.NewFunctionBuilder().WithGoModuleFunction(fn, f.params, f.results).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}
