package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store/inroot"
)

// A Mirror reaches the files of one running container as its processes see
// them, mounts included, by way of /proc/PID/root. The container's content is
// not trusted: every path is resolved below that root (openat2(2)
// RESOLVE_IN_ROOT), so that no link in it leads to a file of the host. What is
// made belongs to the user that the container's process runs as.
type Mirror struct {
	root     *inroot.Root
	uid, gid int
	serial   int
}

// Open reaches the container whose first process is pid, started at
// startTicks (field 22 of /proc/PID/stat): another process that has the number
// by now is refused.
func Open(pid int, startTicks uint64) (*Mirror, error) {
	root, err := inroot.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, fmt.Errorf("reach the files of process %d: %w", pid, err)
	}
	m := &Mirror{root: root}
	ticks, err := startOf(pid)
	if err == nil && startTicks != 0 && ticks != startTicks {
		err = errors.New("it has ended")
	}
	if err == nil {
		m.uid, m.gid, err = userOf(pid)
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("reach the files of process %d: %w", pid, err)
	}
	return m, nil
}

// Close lets the container's files go.
func (m *Mirror) Close() error { return m.root.Close() }

func startOf(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may have anything in it; 19 more follow to field 22.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, errors.New("its stat cannot be read")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// userOf is the effective user and group of a process.
func userOf(pid int) (uid, gid int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		switch fields[0] {
		case "Uid:":
			uid, err = strconv.Atoi(fields[2])
		case "Gid:":
			gid, err = strconv.Atoi(fields[2])
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}

// Put makes the path to of the container what from is on the host: a file with
// its content, mode and time, a directory with its mode, or a link. What is gone
// from the host meanwhile, or is none of these, is passed over.
func (m *Mirror) Put(from, to string) error {
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
		err = m.directory(to, st.Mode)
	case unix.S_IFLNK:
		err = m.link(from, to)
	case unix.S_IFREG:
		err = m.file(from, to)
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", from, err)
	}
	return nil
}

// Same says whether the file at to has the content and mode of the one at from
// already.
func (m *Mirror) Same(from, to string) bool {
	have, err := m.root.OpenRegular(to)
	if err != nil {
		return false
	}
	defer have.Close()
	want, err := openHost(from)
	if err != nil {
		return false
	}
	defer want.Close()
	a, err := have.Stat()
	if err != nil {
		return false
	}
	b, err := want.Stat()
	return err == nil && a.Size() == b.Size() && a.Mode() == b.Mode() && equal(have, want)
}

func equal(a, b io.Reader) bool {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, x)
		k, errB := io.ReadFull(b, y)
		if n != k || !bytes.Equal(x[:n], y[:k]) {
			return false
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil
		}
	}
}

// Remove takes a file or an empty directory away. A directory in which the
// container has files of its own stays.
func (m *Mirror) Remove(to string, dir bool) error {
	parent, name, err := m.root.Parent(to)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", to, err)
	}
	defer parent.Close()
	flags := 0
	if dir {
		flags = unix.AT_REMOVEDIR
	}
	err = unix.Unlinkat(int(parent.Fd()), name, flags)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR),
		errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EBUSY):
		return nil
	}
	return fmt.Errorf("remove %s: %w", to, err)
}

// parent opens the directory that a path is in, made where it is missing.
func (m *Mirror) parent(to string) (*os.File, string, error) {
	dir, name, err := m.root.Parent(to)
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return dir, name, err
	}
	if err := m.clear(path.Dir(path.Clean("/" + to))); err != nil {
		return nil, "", err
	}
	if err := m.root.MkdirAll(path.Dir(path.Clean("/"+to)), 0o755, m.own); err != nil {
		return nil, "", err
	}
	return m.root.Parent(to)
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

func (m *Mirror) directory(to string, mode uint32) error {
	if path.Clean("/"+to) == "/" {
		return nil
	}
	parent, name, err := m.parent(to)
	if err != nil {
		return err
	}
	defer parent.Close()
	fd := int(parent.Fd())
	dir, err := openDir(fd, name)
	switch {
	case err == nil:
		defer dir.Close()
		return unix.Fchmod(int(dir.Fd()), mode&0o7777)
	case !errors.Is(err, unix.ENOENT):
		if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if err := unix.Mkdirat(fd, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if dir, err = openDir(fd, name); err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Chown(m.uid, m.gid); err != nil {
		return err
	}
	return unix.Fchmod(int(dir.Fd()), mode&0o7777)
}

// openDir opens a directory that must not be a link: what is set on the
// descriptor then cannot be diverted.
func openDir(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// temporary is a name for what is not complete yet, beside where it will be.
func (m *Mirror) temporary() string {
	m.serial++
	return fmt.Sprintf(".davit-sync-%d-%d~", os.Getpid(), m.serial)
}

func (m *Mirror) link(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return nil // it went, or is something else now: that will be heard of
	}
	return m.place(to, func(dir int, name string) error {
		if err := unix.Symlinkat(target, dir, name); err != nil {
			return err
		}
		return unix.Fchownat(dir, name, m.uid, m.gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (m *Mirror) file(from, to string) error {
	src, err := openHost(from)
	if err != nil {
		return nil // as above
	}
	defer src.Close()
	err = m.place(to, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), to)
		defer f.Close()
		return m.fill(f, src)
	})
	if errors.Is(err, unix.EBUSY) {
		return m.overwrite(src, to) // a file is mounted there
	}
	return err
}

// fill gives a file the content, owner, mode and time of one of the host.
func (m *Mirror) fill(f, src *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if _, err := io.Copy(f, src); err != nil {
		return err
	}
	if err := unix.Fchown(int(f.Fd()), m.uid, m.gid); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), st.Mode&0o777); err != nil {
		return err
	}
	return unix.Futimes(int(f.Fd()), []unix.Timeval{unix.NsecToTimeval(st.Atim.Nano()), unix.NsecToTimeval(st.Mtim.Nano())})
}

// overwrite writes into a file that cannot be replaced.
func (m *Mirror) overwrite(src *os.File, to string) error {
	f, err := m.root.OpenFile(to, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	return err
}

// place makes something under a temporary name and then puts it where it
// belongs: whoever looks finds the old one or the new one, and never a half.
func (m *Mirror) place(to string, make func(dir int, name string) error) error {
	parent, name, err := m.parent(to)
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, temp := int(parent.Fd()), m.temporary()
	err = make(dir, temp)
	if err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err = m.root.RemoveAll(to); err == nil {
			err = unix.Renameat(dir, temp, dir, name)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(dir, temp, 0)
	}
	return err
}

func openHost(p string) (*os.File, error) {
	f, err := os.OpenFile(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: p, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
