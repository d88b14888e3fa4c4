package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/custos-gateway/custos/api"
)

// manifest names the files of a plugin that custos wrote, with the SHA-256 of
// each, in hexadecimal: what is there and not so in it is somebody else's.
const manifest = ".custos.json"

// writePlugin writes a Claude Code plugin for connections into dir.
func (g *globals) writePlugin(ctx context.Context, names []string, dir string) error {
	client, err := g.client()
	if err != nil {
		return err
	}
	ctx, cancel := asked(ctx)
	defer cancel()
	var connections []*api.Connection
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		c, err := client.Connection(ctx, name)
		if err != nil {
			return fmt.Errorf("write plugin for %s: %w", name, explain(err))
		}
		connections = append(connections, c)
	}
	files, err := g.pluginFiles(connections)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write plugin: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("write plugin: %w", err)
	}
	defer root.Close()
	if err := replaceFiles(root, files); err != nil {
		return fmt.Errorf("write plugin %s: %w", dir, err)
	}
	_, err = fmt.Fprintf(g.stderr, "Wrote %s. Try it with: claude --plugin-dir %s\n", dir, dir)
	return err
}

// replaceFiles makes a folder hold files, and not those that it held before by
// the manifest. Before it writes anything it refuses what it would overwrite
// and did not write. A crash in between leaves files that are in the manifest
// or are as they are to be: the next run goes on with them.
func replaceFiles(root *os.Root, files map[string][]byte) error {
	before, err := readManifest(root)
	if err != nil {
		return err
	}
	after := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		after[name] = sum(files[name])
		if err := mine(root, name, before[name], after[name]); err != nil {
			return err
		}
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, stays := after[name]; !stays {
			if err := mine(root, name, before[name], ""); err != nil {
				return err
			}
			gone = append(gone, name)
		}
	}
	both := maps.Clone(before)
	maps.Copy(both, after)
	if err := writeManifest(root, both); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writePart(root, name, files[name]); err != nil {
			return err
		}
	}
	for _, name := range gone {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		root.Remove(path.Dir(name)) // if it is empty now
	}
	return writeManifest(root, after)
}

// mine refuses a file that is neither as it was written before nor as it is to
// be.
func mine(root *os.Root, name, before, after string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no plain file: remove it, or choose another --out", name)
	}
	var b []byte
	if err == nil {
		b, err = root.ReadFile(name)
	}
	if err != nil {
		return err
	}
	if now := sum(b); now != before && now != after {
		return fmt.Errorf("%s was not written by custos, or was changed since: remove it, or choose another --out", name)
	}
	return nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func readManifest(root *os.Root) (map[string]string, error) {
	b, err := root.ReadFile(manifest)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	var files map[string]string
	if err := json.Unmarshal(b, &files); err != nil {
		return nil, fmt.Errorf("%s is no list of files: choose another --out", manifest)
	}
	for name := range files {
		if !fs.ValidPath(name) {
			return nil, fmt.Errorf("%s names %q, which is outside: choose another --out", manifest, name)
		}
	}
	return files, nil
}

func writeManifest(root *os.Root, files map[string]string) error {
	b, err := json.MarshalIndent(files, "", "  ")
	if err != nil {
		return err
	}
	return writePart(root, manifest, append(b, '\n'))
}

// writePart replaces a file at once. Scripts may be run.
func writePart(root *os.Root, name string, b []byte) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(string(b), "#!") {
		mode = 0o755
	}
	part := name + ".custos-part"
	if err := root.WriteFile(part, b, mode); err != nil {
		return err
	}
	return root.Rename(part, name)
}
