package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"

	"github.com/custos-gateway/custos/api"
)

//go:embed plugin
var pluginTexts embed.FS

// templates are the texts of plugins. Names of connections, protocols and
// labels, which are checked by the configuration, are all that goes into them
// of what others wrote, besides the gateway's URL.
var templates = template.Must(template.New("").Funcs(template.FuncMap{"quote": shellQuote}).ParseFS(pluginTexts, "plugin/*"))

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// about is what the texts say of a connection.
type about struct {
	*api.Connection
	Labels string
	URL    string
	Host   string
	HasCA  bool
}

// pluginFiles are a plugin's files by name. None of them holds a secret: the
// certificates of the gateway's CA are public, and who uses the plugin brings
// a token of their own.
func (g *globals) pluginFiles(connections []*api.Connection) (map[string][]byte, error) {
	files := map[string][]byte{}
	var names []string
	for _, c := range connections {
		reach, err := g.reach(c)
		if err != nil {
			return nil, err
		}
		a := about{c, labels(c.Labels), g.url, reach.Host, g.ca != ""}
		text, err := fill("SKILL.md", a)
		if err != nil {
			return nil, err
		}
		files["skills/"+c.Name+"/SKILL.md"] = text
		names = append(names, c.Name)
	}
	hook, err := fill("session-start", about{&api.Connection{}, "", g.url, "", g.ca != ""})
	if err != nil {
		return nil, err
	}
	files["hooks/session-start"] = hook
	files["hooks/hooks.json"] = indented(map[string]any{"hooks": map[string]any{"SessionStart": []any{map[string]any{
		"matcher": "startup|resume|clear|compact",
		"hooks":   []any{map[string]any{"type": "command", "command": `"${CLAUDE_PLUGIN_ROOT}/hooks/session-start"`, "timeout": 10}},
	}}}})
	files[".claude-plugin/plugin.json"] = indented(map[string]any{"name": "custos", "version": "1.0.0",
		"description": "Use " + strings.Join(names, ", ") + " through the access gateway custos"})
	if g.ca != "" {
		if files["ca.pem"], err = os.ReadFile(g.ca); err != nil {
			return nil, fmt.Errorf("write plugin: %w", err)
		}
	}
	return files, nil
}

func fill(name string, v any) ([]byte, error) {
	var b strings.Builder
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		return nil, fmt.Errorf("write plugin: %w", err)
	}
	return []byte(b.String()), nil
}

func indented(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("custos: " + err.Error()) // it is made of strings and numbers
	}
	return append(b, '\n')
}
