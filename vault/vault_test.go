package vault

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/custos-gateway/custos"
)

const secret = "s3cret-of-the-target"

func write(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask may have cut WriteFile's mode
		t.Fatal(err)
	}
	return path
}

func lend(t *testing.T, s Source) (custos.Credential, error) {
	t.Helper()
	return New(map[string]Source{"orders": s}, Services{}).Lend(context.Background(), &custos.Connection{Name: "orders"})
}

func TestLend(t *testing.T) {
	t.Setenv("ORDERS_PASSWORD", secret)
	for name, s := range map[string]Source{
		"env":                  {Username: "app", Env: "ORDERS_PASSWORD"},
		"file":                 {Username: "app", File: write(t, secret, 0o600)},
		"file with newline":    {Username: "app", File: write(t, secret+"\n", 0o400)},
		"file with CRLF":       {Username: "app", File: write(t, secret+"\r\n", 0o600)},
		"file for a group too": {Username: "app", File: write(t, secret, 0o640)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := lend(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if want := (custos.Credential{Username: "app", Password: secret}); got.Username != want.Username || got.Password != want.Password {
				t.Errorf("got user %q and a password of %d bytes, want %q and %d",
					got.Username, len(got.Password), want.Username, len(want.Password))
			}
		})
	}
}

func TestLendWithoutPassword(t *testing.T) {
	got, err := lend(t, Source{Username: "app"})
	if err != nil || got.Username != "app" || got.Password != "" {
		t.Errorf("got %q, %v", got.Username, err)
	}
}

func TestLendFails(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("EMPTY", "")
	t.Setenv("LINES", secret+"\n"+secret)
	for name, test := range map[string]struct {
		source Source
		say    string
	}{
		"world-readable":   {Source{File: write(t, secret, 0o604)}, "chmod 600"},
		"absent file":      {Source{File: filepath.Join(t.TempDir(), "none")}, "no such file"},
		"empty file":       {Source{File: write(t, "\n", 0o600)}, "is empty"},
		"two lines":        {Source{File: write(t, secret+"\n"+secret, 0o600)}, "several lines"},
		"two newlines":     {Source{File: write(t, secret+"\n\n", 0o600)}, "several lines"},
		"NUL":              {Source{File: write(t, secret+"\x00", 0o600)}, "NUL byte"},
		"too long":         {Source{File: write(t, strings.Repeat(secret, maxSecret), 0o600)}, "more than"},
		"a directory":      {Source{File: t.TempDir()}, "not a regular file"},
		"a FIFO":           {Source{File: fifo}, "not a regular file"},
		"absent variable":  {Source{Env: "NOT_SET_ANYWHERE"}, "is not set"},
		"empty variable":   {Source{Env: "EMPTY"}, "is not set"},
		"variable of many": {Source{Env: "LINES"}, "several lines"},
		"both":             {Source{Env: "EMPTY", File: "x"}, "keep one"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := lend(t, test.source)
			if err == nil {
				t.Fatal("lent")
			}
			if got.Username+got.Password != "" {
				t.Error("a failed loan returned a credential")
			}
			if !strings.Contains(err.Error(), test.say) {
				t.Errorf("error %q does not say %q", err, test.say)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error holds the secret: %q", err)
			}
		})
	}
}

func TestLendUnknownConnection(t *testing.T) {
	_, err := New(nil, Services{}).Lend(context.Background(), &custos.Connection{Name: "other"})
	if err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("got %v", err)
	}
}

func TestLendCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v := New(map[string]Source{"orders": {Username: "app"}}, Services{})
	if _, err := v.Lend(ctx, &custos.Connection{Name: "orders"}); err == nil {
		t.Error("lent after the caller had gone")
	}
}

// A rotated secret is lent to the next session without a restart.
func TestRotation(t *testing.T) {
	path := write(t, "old", 0o600)
	t.Setenv("ROTATED", "old")
	v := New(map[string]Source{"file": {File: path}, "env": {Env: "ROTATED"}}, Services{})
	if err := os.WriteFile(path, []byte("new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ROTATED", "new")
	for _, name := range []string{"file", "env"} {
		got, err := v.Lend(context.Background(), &custos.Connection{Name: name})
		if err != nil || got.Password != "new" {
			t.Errorf("%s: got the old secret, or %v", name, err)
		}
	}
}
