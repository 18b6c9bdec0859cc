package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// claim opens the temporary file at path, empty, for this writer alone. The
// name is always the same, so that what a writer that was killed has left is
// used by the next one and does not pile up; a lock on the file keeps two
// writers of one record apart.
func claim(path string) (*os.File, error) {
	for range 1000 { // each is a writer that came before us
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENXIO) {
			if err = clearDamage(path); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		mine, err := lockTemp(f)
		if mine && err == nil {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s is taken again and again", path)
}

// clearDamage removes what is at path and is nobody's file, one writer at a time:
// the next one would take away the file that the first has made since.
func clearDamage(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() // and the lock with it
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return os.NewSyscallError("flock", err)
	}
	if st, err := os.Lstat(path); err != nil || st.Mode().IsRegular() {
		return nil // somebody else has done it
	}
	return os.RemoveAll(path)
}

// lockTemp waits for the writer that has the file; mine is false when that one
// has renamed it away meanwhile.
func lockTemp(f *os.File) (mine bool, err error) {
	how := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}
	for {
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		return false, err
	case !same(f, f.Name()):
		return false, nil
	case !st.Mode().IsRegular():
		return false, os.Remove(f.Name())
	}
	return true, f.Truncate(0)
}
