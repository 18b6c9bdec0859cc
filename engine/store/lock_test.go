package store

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A forked process has the lock's file until it executes its program.
func TestALockIsGivenUpWhoeverHasItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	for _, kind := range []int16{unix.F_WRLCK, unix.F_RDLCK} {
		l, err := try(path, kind)
		if err != nil {
			t.Fatal(err)
		}
		forked, err := unix.FcntlInt(l.f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(forked)
		l.Release()
		again, err := TryAcquire(path)
		if err != nil {
			t.Fatalf("the lock was given up: %v", err)
		}
		again.ReleaseRemove()
	}
}
