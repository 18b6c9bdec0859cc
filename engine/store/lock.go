package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Lock is an open file description lock (fcntl(2), F_OFD_SETLK): it belongs
// to the open file, so the kernel drops it when its last holder dies, and no
// stale lock can be left behind.
type Lock struct{ f *os.File }

// ErrLocked means that another process holds the lock.
var ErrLocked = errors.New("held by another davit")

// Acquire takes the exclusive lock at path, waiting for it until ctx ends.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	return acquire(ctx, path, unix.F_WRLCK)
}

// AcquireShared takes the lock at path beside other shared holders.
func AcquireShared(ctx context.Context, path string) (*Lock, error) {
	return acquire(ctx, path, unix.F_RDLCK)
}

// Most locks are held for a few milliseconds, by somebody whose end a command
// waits for: at first they are tried often. A try costs 20 µs.
const (
	oftenFor = 50 * time.Millisecond
	often    = 500 * time.Microsecond
	seldom   = 20 * time.Millisecond
)

func acquire(ctx context.Context, path string, kind int16) (*Lock, error) {
	began, wait := time.Now(), often
	for {
		l, err := try(path, kind)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w", path, ctx.Err())
		case <-time.After(wait):
		}
		if wait < seldom && time.Since(began) > oftenFor {
			wait *= 2
		}
	}
}

// TryAcquire takes the exclusive lock at path, or fails with ErrLocked.
func TryAcquire(path string) (*Lock, error) { return try(path, unix.F_WRLCK) }

func try(path string, kind int16) (*Lock, error) {
	for {
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if errors.Is(err, os.ErrNotExist) {
			continue // a directory above it was just removed
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // its directory was just removed, by a holder that cleaned up
		}
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		how := unix.Flock_t{Type: kind, Whence: 0}
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &how); err != nil {
			f.Close()
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
				return nil, ErrLocked
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// The file may have been removed between open and lock, by a holder
		// that cleaned up behind itself: then this lock guards nothing.
		if same(f, path) {
			return &Lock{f}, nil
		}
		f.Close()
	}
}

func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// Release gives the lock up, at once: a process that was forked meanwhile, and has
// not executed its program yet, has the open file too.
func (l *Lock) Release() {
	if l != nil && l.f != nil {
		how := unix.Flock_t{Type: unix.F_UNLCK, Whence: 0}
		_ = unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLK, &how)
		l.f.Close()
		l.f = nil
	}
}

// ReleaseRemove gives the lock up and removes its file.
func (l *Lock) ReleaseRemove() {
	if l != nil && l.f != nil {
		_ = os.Remove(l.f.Name())
		l.Release()
	}
}
