package scan

import (
	"errors"
	"os"
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store/inroot"
)

// A Stack is a merged stack of layers as a Tree: owners, devices and extended
// attributes are those of the layers.
type Stack struct{ root *inroot.Root }

// NewStack shows the tree below root, which it owns from now on.
func NewStack(root *inroot.Root) *Stack { return &Stack{root} }

// Close lets the tree go.
func (s *Stack) Close() error { return s.root.Close() }

// Root is where the merged tree can be reached.
func (s *Stack) Root() *inroot.Root { return s.root }

// Lstat implements Tree.
func (s *Stack) Lstat(p string) (Entry, error) {
	p = Clean(p)
	st, err := s.root.Lstat(p)
	if err != nil {
		return Entry{}, err
	}
	return s.whole(entry(p, st))
}

// whole adds what a stat does not tell: a link's target, and the extended
// attributes.
func (s *Stack) whole(e Entry) (Entry, error) {
	var err error
	if e.IsLink() {
		if e.Link, err = s.root.Readlink(e.Path); err != nil {
			return e, err
		}
		return e, nil
	}
	if e.IsRegular() || e.IsDir() {
		e.Xattrs, err = s.xattrs(e.Path)
	}
	return e, err
}

func (s *Stack) xattrs(p string) (map[string]string, error) {
	f, err := s.root.OpenFile(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Xattrs(f)
}

// Xattrs are the extended attributes of an open file that belong to an image:
// all but security.* and system.*, except security.capability; and none of
// overlayfs's own.
func Xattrs(f *os.File) (map[string]string, error) {
	fd := int(f.Fd())
	n, err := unix.Flistxattr(fd, nil)
	if n == 0 || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, n)
	if n, err = unix.Flistxattr(fd, list); err != nil {
		return nil, err
	}
	var attrs map[string]string
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !ImageXattr(name) {
			continue
		}
		v, err := xattr(fd, name)
		if err != nil {
			return nil, err
		}
		if attrs == nil {
			attrs = make(map[string]string)
		}
		attrs[name] = v
	}
	return attrs, nil
}

// ImageXattr says whether an extended attribute belongs to an image.
func ImageXattr(name string) bool {
	if name == "security.capability" {
		return true
	}
	for _, prefix := range []string{"security.", "system.", "trusted.overlay.", "user.overlay."} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return name != ""
}

func xattr(fd int, name string) (string, error) {
	n, err := unix.Fgetxattr(fd, name, nil)
	if err != nil {
		return "", err
	}
	buf := make([]byte, n)
	n, err = unix.Fgetxattr(fd, name, buf)
	return string(buf[:max(n, 0)]), err
}

// Children implements Tree.
func (s *Stack) Children(p string) ([]Entry, error) {
	names, err := s.root.ReadDir(p)
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	entries := make([]Entry, 0, len(names))
	for _, name := range names {
		e, err := s.Lstat(path.Join(p, name))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Open implements Tree.
func (s *Stack) Open(p string) (*os.File, error) { return s.root.OpenRegular(p) }

// Digest implements Tree.
func (s *Stack) Digest(e Entry) (string, error) {
	f, err := s.root.OpenRegular(e.Path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d, _, err := Hash(f)
	return d, err
}
