package kubernetes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/custos-gateway/custos/mask"
)

// magic begins every object in Protocol Buffers (k8s.io/apimachinery,
// pkg/runtime/serializer/protobuf): an envelope, runtime.Unknown, follows.
var magic = []byte("k8s\x00")

// object hides what one object holds: the values of Secrets where there may be
// any, and what rules detect. The numbers are of the generated.proto files of
// k8s.io/api and k8s.io/apimachinery, and never change.
func (w *wire) object(b []byte, secrets bool) ([]byte, int64, error) {
	inner, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return nil, 0, errors.New("hide secrets: the answer is no object in Protocol Buffers")
	}
	kind, err := kindOf(inner)
	if err != nil {
		return nil, 0, err
	}
	object := func(b []byte) ([]byte, error) { return b, nil }
	switch {
	case !secrets, kind == "Status":
	case kind == "Secret":
		object = w.secret
	case kind == "SecretList":
		object = func(b []byte) ([]byte, error) { return w.rewrite(b, fields{2: w.secret}) }
	case kind == "PartialObjectMetadata":
		object = w.onlyMetadata
	case kind == "PartialObjectMetadataList":
		object = func(b []byte) ([]byte, error) { return w.rewrite(b, fields{2: w.onlyMetadata}) }
	case kind == "TokenRequest":
		object = func(b []byte) ([]byte, error) {
			return w.rewrite(b, fields{3: func(b []byte) ([]byte, error) { return w.rewrite(b, fields{1: w.value}) }})
		}
	default:
		return nil, 0, fmt.Errorf("hide secrets: an answer of kind %q is not known", kind)
	}
	if w.find != nil {
		hidden := object
		object = func(b []byte) ([]byte, error) {
			b, err := hidden(b)
			if err != nil {
				return nil, err
			}
			return w.search(b, 0), nil
		}
	}
	out, err := w.rewrite(inner, fields{2: object})
	return append(bytes.Clone(magic), out...), w.hidden, err
}

// kindOf reads the kind of an envelope.
func kindOf(envelope []byte) (string, error) {
	kind := ""
	w := &wire{}
	_, err := w.rewrite(envelope, fields{1: func(b []byte) ([]byte, error) {
		return w.rewrite(b, fields{2: func(b []byte) ([]byte, error) { kind = string(b); return b, nil }})
	}})
	return kind, err
}

// wire rewrites messages.
type wire struct {
	hide hideValue
	// find looks through every text besides; nil: nothing does.
	find   *mask.Masker
	hidden int64
}

// search hides what rules detect, in a message of which nothing more is known:
// what can be read as a message is taken for one, and else for a text.
func (w *wire) search(b []byte, depth int) []byte {
	if depth < maxDepth {
		if out, ok := w.message(b, depth); ok {
			return out
		}
	}
	out, n := w.find.Append(nil, b)
	if n == 0 {
		return b
	}
	w.hidden += int64(n)
	return out
}

func (w *wire) message(b []byte, depth int) ([]byte, bool) {
	for rest := b; len(rest) > 0; {
		number, kind, n := protowire.ConsumeField(rest)
		if n < 0 || number > 1<<12 || kind == protowire.StartGroupType {
			return nil, false
		}
		rest = rest[n:]
	}
	if len(b) == 0 {
		return nil, false
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		_, kind, tag := protowire.ConsumeTag(b)
		_, _, n := protowire.ConsumeField(b)
		if kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b[tag:])
			out = protowire.AppendBytes(append(out, b[:tag]...), w.search(v, depth+1))
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out, true
}

// fields are what is done to those of a message that have a length.
type fields map[protowire.Number]func([]byte) ([]byte, error)

func (w *wire) rewrite(b []byte, f fields) ([]byte, error) {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errWire
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			return nil, errWire
		}
		change := f[number]
		if change == nil || kind != protowire.BytesType {
			out = append(out, b[:n+size]...)
			b = b[n+size:]
			continue
		}
		v, _ := protowire.ConsumeBytes(b[n:])
		v, err := change(v)
		if err != nil {
			return nil, err
		}
		out = protowire.AppendBytes(append(out, b[:n]...), v)
		b = b[n+size:]
	}
	return out, nil
}

var errWire = errors.New("hide secrets: the answer is malformed")

func (w *wire) value(b []byte) ([]byte, error) {
	w.hidden++
	return w.hide(nil, b), nil
}

// secret is core/v1 Secret: metadata 1, data 2, stringData 4.
func (w *wire) secret(b []byte) ([]byte, error) {
	entry := func(b []byte) ([]byte, error) { return w.rewrite(b, fields{2: w.value}) }
	return w.rewrite(b, fields{1: w.metadata, 2: entry, 4: entry})
}

// onlyMetadata is meta/v1 PartialObjectMetadata: metadata 1.
func (w *wire) onlyMetadata(b []byte) ([]byte, error) {
	return w.rewrite(b, fields{1: w.metadata})
}

// metadata is meta/v1 ObjectMeta: annotations 12, a map.
func (w *wire) metadata(b []byte) ([]byte, error) {
	return w.rewrite(b, fields{12: func(b []byte) ([]byte, error) {
		name := ""
		if _, err := w.rewrite(b, fields{1: func(b []byte) ([]byte, error) { name = string(b); return b, nil }}); err != nil {
			return nil, err
		}
		if name != lastApplied {
			return b, nil
		}
		return w.rewrite(b, fields{2: func(b []byte) ([]byte, error) {
			out, n := hideAnnotation(b, w.hide, nil)
			w.hidden += n
			return out, nil
		}})
	}})
}

// event hides in one event of a watch: WatchEvent, whose object, 2, is a
// RawExtension with its bytes at 1.
func (w *wire) event(b []byte, secrets bool) ([]byte, error) {
	return w.rewrite(b, fields{2: func(b []byte) ([]byte, error) {
		return w.rewrite(b, fields{1: func(b []byte) ([]byte, error) {
			out, _, err := w.object(b, secrets)
			return out, err
		}})
	}})
}

// maxWatchFrame bounds, in bytes, one event of a watch; etcd itself holds no
// object over 1.5 MiB.
const maxWatchFrame = 16 << 20

// frames cuts the events out of a watch in Protocol Buffers, each after its
// length in four bytes, the highest first.
type frames struct {
	*wire
	secrets bool
	buf     []byte
}

// Append hides what b, the next piece, completes, and appends it to dst.
func (f *frames) Append(dst, b []byte) ([]byte, error) {
	f.buf = append(f.buf, b...)
	for len(f.buf) >= 4 {
		n := binary.BigEndian.Uint32(f.buf)
		if n > maxWatchFrame {
			return dst, errors.New("hide secrets: an event is too long")
		}
		if len(f.buf) < 4+int(n) {
			break
		}
		out, err := f.event(f.buf[4:4+n], f.secrets)
		if err != nil {
			return dst, err
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(out)))
		dst = append(dst, out...)
		f.buf = append(f.buf[:0], f.buf[4+n:]...)
	}
	return dst, nil
}

// End says whether the last event was whole.
func (f *frames) End(dst []byte) ([]byte, error) {
	if len(f.buf) > 0 {
		return dst, errWire
	}
	return dst, nil
}

// Hidden is how many values were.
func (f *frames) Hidden() int64 { return f.hidden }
