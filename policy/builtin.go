package policy

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed builtin
var builtin embed.FS

// Builtins are the names of the sets of rules that are shipped.
func Builtins() []string { return []string{"builtin/safe-defaults", "builtin/safe-people"} }

// Builtin returns the YAML that a shipped set is written in, in the form of a
// configuration file with nothing but policies. Package config reads it.
func Builtin(name string) ([]byte, error) {
	for _, known := range Builtins() {
		if name == known {
			return builtin.ReadFile(name + ".yaml")
		}
	}
	return nil, fmt.Errorf("include %s: there is no such set: want %s", name, strings.Join(Builtins(), " or "))
}
