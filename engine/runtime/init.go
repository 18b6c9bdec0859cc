package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// initPath returns the executable to show in a container as its PID 1: a copy
// of this one in the run directory, so that no container ever sees the file
// that is installed (CVE-2019-5736).
func initPath(l store.Layout, wanted bool) (string, error) {
	if !wanted {
		return "", nil
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("open own executable: %w", err)
	}
	defer self.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(self.Fd()), &st); err != nil {
		return "", fmt.Errorf("stat own executable: %w", err)
	}
	name := filepath.Join(l.Run, fmt.Sprintf("init-%x-%x-%x", st.Ino, st.Size, st.Mtim.Nano()))
	if have, err := os.Stat(name); err == nil && have.Size() == st.Size {
		return name, nil
	}
	if err := copyExecutable(self, name); err != nil {
		return "", fmt.Errorf("copy init: %w", err)
	}
	return name, nil
}

func copyExecutable(from io.Reader, name string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".init-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	err = errors.Join(err, f.Chmod(0o555), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
