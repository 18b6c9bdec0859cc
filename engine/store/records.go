package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Records are the records of the networks: keys are slash paths below the data
// directory, such as networks/shop_default/endpoints/ID. What a network is
// outlives a power cut; who is on it does not, because a reboot makes it void.
type Records struct{ layout Layout }

// Records returns the network records of this layout.
func (l Layout) Records() *Records { return &Records{l} }

// Read fills v from the record at key; fs.ErrNotExist when there is none. A
// damaged record of who is on a network, from before this boot, counts as not
// there: it was never synced, and would be void if it were whole.
func (r *Records) Read(key string, v any) error {
	path, err := r.path(key)
	if err != nil {
		return err
	}
	err = Read(path, v)
	var damaged *DamagedError
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("record %s: %w", key, fs.ErrNotExist)
	case errors.As(err, &damaged) && !lasting(key) && (damaged.Blank || older(path, booted())):
		return fmt.Errorf("record %s: from before this boot: %w", key, fs.ErrNotExist)
	}
	return err
}

// Write replaces the record at key.
func (r *Records) Write(key string, v any) error {
	path, err := r.path(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o710); err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	if lasting(key) {
		return Write(path, v)
	}
	return WriteUnsynced(path, v)
}

// Remove deletes the record, or the directory of records, at key; one that is
// not there is no error.
func (r *Records) Remove(key string) error {
	path, err := r.path(key)
	if err != nil {
		return err
	}
	_ = os.Remove(path + "~")
	return os.RemoveAll(path)
}

// List names what is directly below a directory of records; one that is not
// there has nothing.
func (r *Records) List(dir string) ([]string, error) {
	path, err := r.path(dir)
	if err != nil {
		return nil, err
	}
	return Names(path)
}

// Lock takes the named lock of this installation, waiting for it.
func (r *Records) Lock(name string) (unlock func(), err error) {
	l, err := Acquire(context.Background(), r.layout.Lock("net-"+strings.ReplaceAll(name, "/", "-")))
	if err != nil {
		return nil, err
	}
	return l.Release, nil
}

// Dir is the directory behind a key.
func (r *Records) Dir(key string) string {
	path, err := r.path(key)
	if err != nil {
		return filepath.Join(r.layout.Data, "networks")
	}
	return path
}

func (r *Records) path(key string) (string, error) {
	if key != "" && !filepath.IsLocal(key) {
		return "", fmt.Errorf("record key %q leaves its directory", key)
	}
	return filepath.Join(r.layout.Data, key), nil
}

// lasting tells what a network is from who is on it.
func lasting(key string) bool {
	base := filepath.Base(key)
	return strings.HasPrefix(base, "network") || strings.HasPrefix(base, "runtime")
}

func older(path string, than time.Time) bool {
	st, err := os.Lstat(path)
	return err == nil && st.ModTime().Before(than)
}

// booted is when this boot began, by the present clock.
var booted = sync.OnceValue(func() time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(up.Nano()))
})
