package layer

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is a directory in which names are resolved as if it were the root
// of the file system: absolute links and ".." stay inside, by openat2(2)'s
// RESOLVE_IN_ROOT. All that is made is made by a single name below a
// descriptor of its parent, so no path is ever resolved twice.
type tree struct {
	root int
	dirs map[string]int // open directories by cleaned path
}

// maxDirs bounds the descriptors that one tree keeps open.
const maxDirs = 64

func openTree(dir string) (*tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &tree{root: fd, dirs: map[string]int{}}, nil
}

func (t *tree) close() {
	t.forget()
	unix.Close(t.root)
}

// forget closes the kept directories: a name on the way to one of them was
// taken away.
func (t *tree) forget() {
	for _, fd := range t.dirs {
		unix.Close(fd)
	}
	clear(t.dirs)
}

func (t *tree) remember(p string, fd int) {
	if old, ok := t.dirs[p]; ok {
		unix.Close(old)
	} else if len(t.dirs) >= maxDirs {
		t.forget()
	}
	t.dirs[p] = fd
}

// open opens a path below the tree's root, following links inside it.
func (t *tree) open(p string, flags uint64) (int, error) {
	if p == "" {
		p = "."
	}
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(t.root, p, &how)
		// EAGAIN: something was renamed somewhere while ".." was resolved;
		// EINTR: a signal, on network file systems.
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// dir returns a descriptor of the directory p, which the tree keeps. Missing
// parents are made, as tar does.
func (t *tree) dir(p string) (int, error) { return t.makeDir(p, 0) }

func (t *tree) makeDir(p string, depth int) (int, error) {
	if p == "" || p == "." {
		return t.root, nil
	}
	if fd, ok := t.dirs[p]; ok {
		return fd, nil
	}
	if depth > maxPath {
		return -1, unix.ELOOP
	}
	fd, err := t.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		fd, err = t.makeMissing(p, depth)
	}
	if err != nil {
		return -1, err
	}
	t.remember(p, fd)
	return fd, nil
}

// makeMissing makes the last name of p in its parent. Where a dangling link
// is in the way, its target is made, inside the root.
func (t *tree) makeMissing(p string, depth int) (int, error) {
	base := path.Base(p)
	parent, err := t.makeDir(path.Dir(p), depth+1)
	if err != nil {
		return -1, err
	}
	err = unix.Mkdirat(parent, base, 0o755)
	if errors.Is(err, unix.EEXIST) {
		target, err := t.followed(parent, base)
		if err != nil {
			return -1, err
		}
		fd, err := t.makeDir(target, depth+64)
		if err != nil {
			return -1, err
		}
		return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return -1, err
	}
	if err := unix.Fchmodat(parent, base, 0o755, 0); err != nil {
		return -1, err
	}
	return unix.Openat(parent, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// followed is where the link name in the directory parent points to, as a
// cleaned path below the root.
func (t *tree) followed(parent int, name string) (string, error) {
	buf := make([]byte, maxPath+1)
	n, err := unix.Readlinkat(parent, name, buf)
	if err != nil {
		return "", err
	}
	target := string(buf[:n])
	if path.IsAbs(target) {
		return strings.TrimPrefix(path.Clean(target), "/"), nil
	}
	root, err := realPath(t.root)
	if err != nil {
		return "", err
	}
	dir, err := realPath(parent)
	if err != nil {
		return "", err
	}
	below := strings.TrimPrefix(dir, root)
	return strings.TrimPrefix(path.Clean("/"+below+"/"+target), "/"), nil
}

func realPath(fd int) (string, error) {
	buf := make([]byte, 8192)
	n, err := unix.Readlink(procPath(fd, ""), buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// procPath names what a descriptor refers to, for calls that take no
// descriptor; with a name, that entry of the directory.
func procPath(fd int, name string) string {
	p := fmt.Sprintf("/proc/self/fd/%d", fd)
	if name != "" {
		p += "/" + name
	}
	return p
}
