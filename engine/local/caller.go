package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/davit-run/davit/engine/store"
)

// caller is the person behind sudo, when there is one: files made on their
// behalf are theirs.
func caller() (uid, gid int, ok bool) {
	if os.Geteuid() != 0 {
		return 0, 0, false
	}
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil {
		return 0, 0, false
	}
	gid, err = strconv.Atoi(os.Getenv("SUDO_GID"))
	if err != nil {
		return 0, 0, false
	}
	return uid, gid, true
}

// WriteForCaller writes a file, and the directories that it lies in, that belong
// to the person behind sudo, when there is one.
func WriteForCaller(path string, content []byte) error {
	if err := mkdirAsCaller(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Dir(path), err)
	}
	if err := store.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if uid, gid, ok := caller(); ok {
		return os.Lchown(path, uid, gid)
	}
	return nil
}
