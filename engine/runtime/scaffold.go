package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// What every container has something mounted on, and many images lack.
var (
	scaffoldDirs  = []string{"dev", "etc", "proc", "sys"}
	scaffoldFiles = []string{"etc/hostname", "etc/hosts", "etc/resolv.conf"}
)

// scaffold returns a directory that has the usual mount points, to lie below a
// container's image: else each start would copy /etc up and make them in the
// container's own directory, where diff and commit would find them. What the
// image itself has, or has removed, counts as before.
func scaffold(l store.Layout) (string, error) {
	dir := filepath.Join(l.Run, "scaffold")
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil
	}
	draft, err := os.MkdirTemp(l.Run, ".scaffold-*")
	if err != nil {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	defer os.RemoveAll(draft)
	if err := build(draft); err != nil {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	err = os.Rename(draft, dir)
	if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTEMPTY) {
		return "", fmt.Errorf("make mount points: %w", err)
	}
	return dir, nil
}

func build(root string) error {
	for _, d := range append([]string{""}, scaffoldDirs...) {
		path := filepath.Join(root, d)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, 0o755)); err != nil {
			return err
		}
	}
	for _, f := range scaffoldFiles {
		path := filepath.Join(root, f)
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chmod(path, 0o644)); err != nil {
			return err
		}
	}
	return nil
}
