package kubernetes

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

const clear = "correct-horse-battery-staple"

// hidden fails the test where b shows the value, in any of its encodings.
func hidden(t *testing.T, b []byte) {
	t.Helper()
	for _, form := range []string{clear, base64.StdEncoding.EncodeToString([]byte(clear)), base64.StdEncoding.EncodeToString([]byte(`"` + clear))} {
		if bytes.Contains(b, []byte(form)) {
			t.Errorf("it shows the value: %s", b)
		}
	}
}

func example() *corev1.Secret {
	encoded := base64.StdEncoding.EncodeToString([]byte(clear))
	return &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "prod", Annotations: map[string]string{
			"note": `a "quoted" note`, lastApplied: `{"apiVersion":"v1","kind":"Secret","data":{"password":"` + encoded + `"},"stringData":{"other":"` + clear + `"},"metadata":{"name":"db"}}` + "\n"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(`{"f:data":{"f:password":{}}}`)}}},
		Data: map[string][]byte{"password": []byte(clear), "empty": {}}, StringData: map[string]string{"more": clear}, Type: "Opaque",
	}
}

func TestHideJSON(t *testing.T) {
	s := example()
	object, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	escaped := strings.ReplaceAll(string(object), "password", `pass\u0077ord`)
	var indented bytes.Buffer
	if err := json.Indent(&indented, object, " ", "\t"); err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string]string{
		"object": string(object), "escaped": escaped, "escaped name": strings.Replace(string(object), `"data"`, `"d\u0061ta"`, 1),
		"list":       `{"kind":"SecretList","items":[` + string(object) + "," + string(object) + `]}`,
		"event":      `{"type":"ADDED","object":` + string(object) + "}\n" + `{"type":"MODIFIED","object":` + string(object) + "}\n",
		"table":      `{"kind":"Table","rows":[{"cells":["db","Opaque",1,"1d"],"object":` + string(object) + `}]}`,
		"spaces":     indented.String(),
		"JSON patch": `[{"op":"replace","path":"/data/password","value":"` + base64.StdEncoding.EncodeToString([]byte(clear)) + `"},{"op":"add","path":"/data","value":{"a":"` + clear + `"}}]`,
		"annotation": `{"metadata":{"annotations":{"` + lastApplied + `":"no JSON: ` + clear + `"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			whole, n, err := hideSecrets([]byte(doc), redactSecret)
			if err != nil || n == 0 {
				t.Fatalf("%d hidden, %v", n, err)
			}
			hidden(t, whole)
			if name != "event" && !json.Valid(whole) {
				t.Errorf("it is no JSON any more: %s", whole)
			}
			// However it is cut, the same comes out.
			for _, size := range []int{1, 2, 7, 64} {
				h := &hider{hide: redactSecret, keys: secretKeys, values: true}
				var out []byte
				for piece := range slices.Chunk([]byte(doc), size) {
					if out, err = h.Append(out, piece); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := h.End(nil); err != nil || !bytes.Equal(out, whole) {
					t.Fatalf("in pieces of %d: %v\n%s\n%s", size, err, out, whole)
				}
			}
		})
	}
}

// What is no value stays as it is, to the byte.
func TestHideLeavesTheRest(t *testing.T) {
	doc := `{"kind" : "Status", "message":"data: \"x\"\u00e9", "details":{"causes":[1, 2.5e3,true,null]},"metadata":{"managedFields":[{"fieldsV1":{"f:data":{"f:a":{}}}}]}}`
	out, n, err := hideSecrets([]byte(doc), redactSecret)
	if err != nil || n != 0 || string(out) != doc {
		t.Errorf("%d %v\n%s", n, err, out)
	}
	var s corev1.Secret
	out, _, err = hideSecrets(must(json.Marshal(example())), redactSecret)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	if string(s.Data["password"]) != redacted || s.StringData["more"] != redacted || s.Name != "db" || s.Annotations["note"] != `a "quoted" note` {
		t.Errorf("got %+v", s)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// encode is an object as the API server writes it.
func encode(t *testing.T, o runtime.Object) []byte {
	t.Helper()
	var b bytes.Buffer
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), typeProtobuf)
	if err := info.Serializer.Encode(o, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHideProtobuf(t *testing.T) {
	s := example()
	meta := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: s.ObjectMeta}
	for name, o := range map[string]runtime.Object{
		"object": s, "list": &corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, Items: []corev1.Secret{*s, *s}},
		"metadata":  meta,
		"metadatas": &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}, Items: []metav1.PartialObjectMetadata{*meta}},
	} {
		b := encode(t, o)
		out, n, err := (&wire{hide: redactSecret}).object(b, true)
		if err != nil || n == 0 {
			t.Fatalf("%s: %d hidden, %v", name, n, err)
		}
		hidden(t, out)
		if s, ok := o.(*corev1.Secret); ok {
			back, _, err := protobufCodec.Decode(out, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := back.(*corev1.Secret); string(got.Data["password"]) != redacted || got.Annotations["note"] != s.Annotations["note"] || got.Name != "db" {
				t.Errorf("got %+v", got)
			}
		}
		// What was cut off is an error, and shows nothing.
		for i := range b {
			if out, _, err := (&wire{hide: redactSecret}).object(b[:i], true); err == nil {
				hidden(t, out)
			}
		}
	}
	if _, _, err := (&wire{hide: redactSecret}).object(encode(t, &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}), true); err == nil {
		t.Error("an answer of another kind is let through")
	}
}

func TestHideWatch(t *testing.T) {
	event := metav1.WatchEvent{Type: string(watch.Added), Object: runtime.RawExtension{Raw: encode(t, example())}}
	b := must(event.Marshal())
	stream := append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	stream = append(stream, stream...)
	for _, size := range []int{1, 5, len(stream)} {
		f := &frames{wire: &wire{hide: redactSecret}, secrets: true}
		var out []byte
		var err error
		for piece := range slices.Chunk(stream, size) {
			if out, err = f.Append(out, piece); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.End(nil); err != nil || f.hidden != 10 {
			t.Fatalf("%d hidden, %v", f.hidden, err)
		}
		hidden(t, out)
		var back metav1.WatchEvent
		if err := back.Unmarshal(out[4 : 4+binary.BigEndian.Uint32(out)]); err != nil || back.Type != "ADDED" {
			t.Errorf("%+v, %v", back, err)
		}
	}
}

func FuzzHide(f *testing.F) {
	f.Add([]byte(`{"data":{"a":"` + clear + `"}}`))
	f.Add([]byte(`{"items":[{"data":{"a":"\u0063orrect"}}],"x":[1,{"y":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, _, err := hideSecrets(b, redactSecret)
		h := &hider{hide: redactSecret, keys: secretKeys, values: true}
		var out []byte
		var pieces error
		for i := range b {
			if out, pieces = h.Append(out, b[i:i+1]); pieces != nil {
				break
			}
		}
		if pieces == nil {
			_, pieces = h.End(nil)
		}
		if (err == nil) != (pieces == nil) || err == nil && !bytes.Equal(out, whole) {
			t.Errorf("in pieces %v %q, whole %v %q", pieces, out, err, whole)
		}
		if err == nil && json.Valid(b) && !json.Valid(whole) {
			t.Errorf("%q is no JSON any more: %q", b, whole)
		}
		(&wire{hide: redactSecret}).object(append(bytes.Clone(magic), b...), true)
		(&wire{hide: redactSecret}).event(b, true)
	})
}
