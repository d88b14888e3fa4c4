package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newSkillDigest(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "digest DIR",
		Short: "Print what a skill's folder is, as one digest of all its files",
		Long: "Print one digest of all the files of a skill's folder: the SHA-256 of what sha256sum prints of\n" +
			"them, in the order of their names' bytes. The same, without custos:\n\n" +
			"  cd DIR && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			digest, err := folderDigest(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(g.stdout, digest)
			return err
		},
	}
}

// Bounds on a skill's folder.
const (
	maxFolderFiles = 10_000
	maxFolderBytes = 256 << 20
)

// folderDigest is the SHA-256 of the list of a folder's files: for each, in
// the order of the names' bytes, the hexadecimal SHA-256 of its contents, two
// spaces, its name with slashes, and a line break. Modes and times do not
// count. What is neither file nor folder is refused: it could lead anywhere.
func folderDigest(dir string) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("digest skill: %w", err)
	}
	defer root.Close()
	var names []string
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no plain file: put its contents there", name)
		case strings.ContainsAny(name, "\\\n\r"):
			return fmt.Errorf("the name %q has a backslash or a line break: rename it", name)
		case len(names) == maxFolderFiles:
			return fmt.Errorf("it has more than %d files: name the skill's own folder", maxFolderFiles)
		}
		names = append(names, name)
		return nil
	})
	if err == nil && len(names) == 0 {
		err = errors.New("it has no files")
	}
	if err != nil {
		return "", fmt.Errorf("digest skill %s: %w", dir, err)
	}
	slices.Sort(names)
	list := sha256.New()
	left := int64(maxFolderBytes)
	for _, name := range names {
		sum, n, err := fileDigest(root, name, left)
		if err != nil {
			return "", fmt.Errorf("digest skill %s: %w", dir, err)
		}
		left -= n
		fmt.Fprintf(list, "%s  %s\n", sum, name)
	}
	return "sha256:" + hex.EncodeToString(list.Sum(nil)), nil
}

// fileDigest is the SHA-256 of one file, of at most limit bytes.
func fileDigest(root *os.Root, name string, limit int64) (sum string, n int64, err error) {
	f, err := root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if n, err = io.Copy(h, io.LimitReader(f, limit+1)); err == nil && n > limit {
		err = fmt.Errorf("it has more than %d bytes: name the skill's own folder", maxFolderBytes)
	}
	return hex.EncodeToString(h.Sum(nil)), n, err
}
