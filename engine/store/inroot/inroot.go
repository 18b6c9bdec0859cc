// Package inroot reaches files below a directory whose content is not trusted,
// resolving every link as a process chrooted there would, and never leaving it.
package inroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A Root is a directory, held open, that paths are resolved below. Absolute
// and parent links stay inside, as openat2(2) RESOLVE_IN_ROOT has it; magic
// links (/proc/self/fd/N) are refused. Paths are slash-separated; whether they
// begin with a slash makes no difference. Every operation works on descriptors:
// a link swapped in meanwhile is at worst followed inside the root.
type Root struct{ dir *os.File }

// Open opens the directory at path as a root.
func Open(dir string) (*Root, error) {
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Root{f}, nil
}

// New makes a root of a directory that is open already, and owns it from now on.
func New(dir *os.File) *Root { return &Root{dir} }

// Close gives the root up; files opened through it stay open.
func (r *Root) Close() error { return r.dir.Close() }

// Fd is the root's descriptor.
func (r *Root) Fd() int { return int(r.dir.Fd()) }

func clean(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return "."
	}
	return p
}

func (r *Root) openat(p string, flags int, mode uint32, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Mode: uint64(mode),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve}
	for {
		fd, err := unix.Openat2(r.Fd(), clean(p), &how)
		// EAGAIN: a rename raced with the walk (openat2(2)).
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: "/" + clean(p), Err: err}
		}
		return fd, nil
	}
}

// OpenFile opens the file at p, following links inside the root. A created
// file gets exactly mode only after a Chmod: the umask applies.
func (r *Root) OpenFile(p string, flags int, mode os.FileMode) (*os.File, error) {
	fd, err := r.openat(p, flags, uint32(mode.Perm()), 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/"+clean(p)), nil
}

// OpenRegular opens a regular file for reading: no link at its end, no device,
// and no FIFO that would make the caller wait.
func (r *Root) OpenRegular(p string) (*os.File, error) {
	f, err := r.OpenFile(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return regular(f)
}

func regular(f *os.File) (*os.File, error) {
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: f.Name(), Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile reads a regular file of at most limit bytes, following links.
func (r *Root) ReadFile(p string, limit int64) ([]byte, error) {
	f, err := r.OpenFile(p, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if f, err = regular(f); err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read %s: larger than %d bytes", f.Name(), limit)
	}
	return b, nil
}

// Parent opens the directory that holds p, following links on the way, and
// returns the last element of p. The caller closes the directory.
func (r *Root) Parent(p string) (*os.File, string, error) {
	p = clean(p)
	dir, base := path.Split(p)
	if p == "." {
		return nil, "", &os.PathError{Op: "open", Path: "/", Err: errors.New("the root has no parent")}
	}
	f, err := r.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	return f, base, err
}

// Sub makes a root of the directory at p, links followed.
func (r *Root) Sub(p string) (*Root, error) {
	f, err := r.OpenFile(p, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Root{f}, nil
}

// Lstat is fstatat(2) of p itself, links before its last element followed.
func (r *Root) Lstat(p string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if clean(p) == "." {
		return st, unix.Fstat(r.Fd(), &st)
	}
	dir, base, err := r.Parent(p)
	if err != nil {
		return st, err
	}
	defer dir.Close()
	if err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &os.PathError{Op: "lstat", Path: "/" + clean(p), Err: err}
	}
	return st, nil
}

// Stat is Lstat with the last link followed too.
func (r *Root) Stat(p string) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.openat(p, unix.O_PATH, 0, 0)
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// Readlink returns where the link at p points.
func (r *Root) Readlink(p string) (string, error) {
	dir, base, err := r.Parent(p)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return ReadlinkAt(dir, base)
}

// ReadlinkAt returns where the link called name in dir points.
func ReadlinkAt(dir *os.File, name string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// ReadDir lists the names in the directory at p, in the order of the
// directory.
func (r *Root) ReadDir(p string) ([]string, error) {
	f, err := r.OpenFile(p, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// MkdirAll makes the directory at p and its missing parents, and calls made for
// each one it made, with the directory open (O_PATH) and its path. Links to
// directories inside the root are followed.
func (r *Root) MkdirAll(p string, mode uint32, made func(dir *os.File, p string) error) error {
	p = clean(p)
	if p == "." {
		return nil
	}
	at := ""
	for _, name := range strings.Split(p, "/") {
		at = path.Join(at, name)
		st, err := r.Stat(at)
		if err == nil {
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return &os.PathError{Op: "mkdir", Path: "/" + at, Err: unix.ENOTDIR}
			}
			continue
		}
		if err := r.mkdir(at, mode, made); err != nil {
			return err
		}
	}
	return nil
}

func (r *Root) mkdir(p string, mode uint32, made func(*os.File, string) error) error {
	dir, base, err := r.Parent(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Mkdirat(int(dir.Fd()), base, mode); err != nil {
		return &os.PathError{Op: "mkdir", Path: "/" + p, Err: err}
	}
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/" + p, Err: err}
	}
	f := os.NewFile(uintptr(fd), "/"+p)
	defer f.Close()
	// The umask took bits away. By descriptor, since the name may have become a
	// link to somewhere else by now; O_PATH knows fchmod(2) only by way of /proc.
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode); err != nil {
		return &os.PathError{Op: "chmod", Path: "/" + p, Err: err}
	}
	if made != nil {
		return made(f, p)
	}
	return nil
}

// RemoveAll deletes what is at p, a whole tree if it is a directory; links are
// deleted, never followed. What is not there is no error.
func (r *Root) RemoveAll(p string) error {
	dir, base, err := r.Parent(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return RemoveAt(int(dir.Fd()), base)
}

// Names lists an open directory, from its beginning and in its own order.
func Names(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return nil, os.NewSyscallError("lseek", err)
	}
	buf := make([]byte, 32<<10)
	var names []string
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return nil, os.NewSyscallError("getdents", err)
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// RemoveAt deletes the entry called name of an open directory, a whole tree if
// it is a directory; links are deleted, never followed. What is not there is no
// error.
func RemoveAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	names, err := Names(fd)
	for _, n := range names {
		if rerr := RemoveAt(fd, n); err == nil {
			err = rerr
		}
	}
	unix.Close(fd)
	if err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}
