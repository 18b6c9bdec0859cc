package mirror

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// A hand does one thing after the other. It keeps the directory that it worked
// in last: files that come together are mostly neighbours, and resolving their
// path is half of what bringing a small one costs.
type hand struct {
	m    *Mirror
	at   string   // the path of dir
	dir  *os.File // nil: none is kept
	temp string   // what the names of incomplete files begin with
	buf  []byte
}

func (m *Mirror) hand() *hand {
	return &hand{m: m, temp: fmt.Sprintf(".davit-sync-%d-", os.Getpid())}
}

// forget lets the kept directory go.
func (h *hand) forget() {
	if h.dir != nil {
		h.dir.Close()
		h.dir = nil
	}
}

// put makes the path to of the container what from is on the host.
func (h *hand) put(from, to string) error {
	return h.again(from, func() error { return h.try(from, to) })
}

// again does something that brings from, and does it once more where the
// container has removed the kept directory meanwhile.
func (h *hand) again(from string, do func() error) error {
	err := do()
	if errors.Is(err, unix.ENOENT) && h.dir != nil {
		h.forget()
		err = do()
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", from, err)
	}
	return nil
}

func (h *hand) try(from, to string) error {
	var st unix.Stat_t
	err := unix.Lstat(from, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "look at", Path: from, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return h.directory(to, st.Mode)
	case unix.S_IFLNK:
		return h.link(from, to)
	case unix.S_IFREG:
		return h.file(from, to)
	}
	return nil
}

// remove takes a file or an empty directory away. A directory in which the
// container has files of its own stays. What is there may be of another kind than
// the host was last seen to have: put brings what it finds.
func (h *hand) remove(to string, dir bool) error {
	parent, name, err := h.m.root.Parent(to)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", to, err)
	}
	defer parent.Close()
	kinds := []int{0, unix.AT_REMOVEDIR}
	if dir {
		slices.Reverse(kinds)
	}
	for _, kind := range kinds {
		err = unix.Unlinkat(int(parent.Fd()), name, kind)
		if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOTDIR) {
			break
		}
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EBUSY):
		return nil
	}
	return fmt.Errorf("remove %s: %w", to, err)
}

// parent opens the directory that a path is in, made where it is missing. The
// hand keeps it: the caller does not close it.
func (h *hand) parent(to string) (dir int, name string, err error) {
	to = path.Clean("/" + to)
	at := path.Dir(to)
	if h.dir == nil || h.at != at {
		h.forget()
		if h.dir, err = h.m.directory(to); err != nil {
			h.dir = nil
			return -1, "", err
		}
		h.at = at
	}
	return int(h.dir.Fd()), path.Base(to), nil
}

// directory opens the directory that a path is in, made where it is missing.
func (m *Mirror) directory(to string) (*os.File, error) {
	dir, _, err := m.root.Parent(to)
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return dir, err
	}
	m.making.Lock()
	defer m.making.Unlock()
	if err := m.clear(path.Dir(to)); err != nil {
		return nil, err
	}
	if err := m.root.MkdirAll(path.Dir(to), 0o755, m.own); err != nil {
		return nil, err
	}
	dir, _, err = m.root.Parent(to)
	return dir, err
}

// clear removes a file where a directory must be, anywhere on the way to dir.
func (m *Mirror) clear(dir string) error {
	for at := dir; at != "/"; at = path.Dir(at) {
		if st, err := m.root.Stat(at); err == nil {
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				return nil
			}
			return m.root.RemoveAll(at)
		}
	}
	return nil
}

func (m *Mirror) own(dir *os.File, _ string) error {
	return unix.Fchownat(int(dir.Fd()), "", m.uid, m.gid, unix.AT_EMPTY_PATH)
}
