package kubernetes

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// magic begins every object in Protocol Buffers (k8s.io/apimachinery,
// pkg/runtime/serializer/protobuf): an envelope, runtime.Unknown, follows.
var magic = []byte("k8s\x00")

// hideProtobuf hides the values of Secrets in one object. The numbers are of
// the generated.proto files of k8s.io/api and k8s.io/apimachinery, and never
// change. A kind that is not known to be harmless is an error.
func hideProtobuf(b []byte, hide hideValue) ([]byte, int64, error) {
	inner, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return nil, 0, errors.New("hide secrets: the answer is no object in Protocol Buffers")
	}
	kind, err := kindOf(inner)
	if err != nil {
		return nil, 0, err
	}
	w := &wire{hide: hide}
	var object func([]byte) ([]byte, error)
	switch kind {
	case "Status":
		return b, 0, nil
	case "Secret":
		object = w.secret
	case "SecretList":
		object = func(b []byte) ([]byte, error) { return w.rewrite(b, fields{2: w.secret}) }
	case "PartialObjectMetadata":
		object = w.onlyMetadata
	case "PartialObjectMetadataList":
		object = func(b []byte) ([]byte, error) { return w.rewrite(b, fields{2: w.onlyMetadata}) }
	case "TokenRequest":
		object = func(b []byte) ([]byte, error) {
			return w.rewrite(b, fields{3: func(b []byte) ([]byte, error) { return w.rewrite(b, fields{1: w.value}) }})
		}
	default:
		return nil, 0, fmt.Errorf("hide secrets: an answer of kind %q is not known", kind)
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
	hide   hideValue
	hidden int64
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
			out, n := hideAnnotation(b, w.hide)
			w.hidden += n
			return out, nil
		}})
	}})
}

// hideFrame hides the values of Secrets in one event of a watch: WatchEvent,
// whose object, 2, is a RawExtension with its bytes at 1.
func hideFrame(b []byte, hide hideValue) ([]byte, int64, error) {
	w := &wire{hide: hide}
	var hidden int64
	out, err := w.rewrite(b, fields{2: func(b []byte) ([]byte, error) {
		return w.rewrite(b, fields{1: func(b []byte) ([]byte, error) {
			out, n, err := hideProtobuf(b, hide)
			hidden += n
			return out, err
		}})
	}})
	return out, hidden, err
}

// maxWatchFrame bounds, in bytes, one event of a watch; etcd itself holds no
// object over 1.5 MiB.
const maxWatchFrame = 16 << 20

// frames cuts the events out of a watch in Protocol Buffers, each after its
// length in four bytes, the highest first.
type frames struct {
	hide   hideValue
	buf    []byte
	hidden int64
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
		out, hidden, err := hideFrame(f.buf[4:4+n], f.hide)
		if err != nil {
			return dst, err
		}
		f.hidden += hidden
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(out)))
		dst = append(dst, out...)
		f.buf = append(f.buf[:0], f.buf[4+n:]...)
	}
	return dst, nil
}

// End says whether the last event was whole.
func (f *frames) End() error {
	if len(f.buf) > 0 {
		return errWire
	}
	return nil
}
