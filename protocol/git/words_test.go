package git

import (
	"slices"
	"testing"
)

func TestStatement(t *testing.T) {
	for text, want := range map[string][]string{
		"upload-pack org/app want refs/heads/main":                                     {"read"},
		"receive-pack org/app refs/heads/agent/x create":                               {"ref.create"},
		"receive-pack org/app refs/heads/agent/x old=0000000 new=abc1234 create":       {"ref.create"},
		"receive-pack org/app refs/heads/main old=aaa1111 new=bbb2222 ff=true":         {"ref.forward", "ref.protected"},
		"receive-pack org/app refs/heads/main old=bbb2222 new=0000000 delete":          {"destroy", "ref.delete", "ref.protected"},
		"receive-pack org/app refs/tags/v1 old=aaa1111 new=bbb2222":                    {"ref.force"},
		"receive-pack org/app refs/replace/aaa1111 create":                             {"ref.create", "ref.reserved"},
		"receive-pack org/app refs/heads/Main old=0 new=ccc":                           {"ref.create", "ref.protected", "ref.reserved"},
		"receive-pack org/app refs/heads/x create file=.github/workflows/ci.yml":       {"ref.create", "workflow"},
		"receive-pack org/app refs/heads/x forward +secret.added author=a@example.com": {"ref.forward", "secret.added"},
	} {
		o, err := Statement(text)
		if err != nil || !slices.Equal(o.Facts.Effects, want) {
			t.Errorf("%s: %v, %v; want %q", text, o, err, want)
		}
	}
	for _, text := range []string{"", "receive-pack", "receive-pack org/app refs/heads/x", "receive-pack org/app refs/heads/x sometime", "receive-pack org/app refs/heads/../x create", "push-it org/app x"} {
		if o, err := Statement(text); err == nil {
			t.Errorf("%q is taken for %v", text, o)
		}
	}
}
