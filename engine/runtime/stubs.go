package runtime

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// stubs are the traces of a build command's mounts in its upper: mount points
// that were made there, and directories that were copied up to hold them. They
// are no part of what the command built.
type stubs struct {
	made    []string               // absolute paths that were not in the root
	parents map[string]unix.Stat_t // directories that were, as they looked
}

// newStubs finds the places that are not in root and will be made there.
func newStubs(root string, c *engine.Container, binds map[string]string) stubs {
	targets := []string{"/proc", "/dev", "/sys"}
	for t := range binds {
		targets = append(targets, t)
	}
	for _, m := range c.Spec.Mounts {
		targets = append(targets, path.Clean(m.Target))
	}
	s := stubs{parents: map[string]unix.Stat_t{}}
	r, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return s
	}
	defer r.Close()
	for _, t := range targets {
		s.find(r, t)
	}
	return s
}

// find notes the missing end of a target, and the directories above it.
func (s *stubs) find(root *os.File, target string) {
	missing := false
	for t := target; t != "/"; t = path.Dir(t) {
		h, err := pathrs.OpenatInRoot(root, t)
		if errors.Is(err, fs.ErrNotExist) {
			missing = true
			if !slices.Contains(s.made, t) {
				s.made = append(s.made, t)
			}
			continue
		}
		if err != nil || !missing {
			return
		}
		var st unix.Stat_t
		if unix.Fstat(int(h.Fd()), &st) == nil {
			s.parents[t] = st
		}
		h.Close()
	}
}

// remove takes away those that are still empty, deepest first, never following
// a link that the command may have put in their way (CVE-2024-23652).
func (s stubs) remove(upper string) error {
	if len(s.made) == 0 {
		return nil
	}
	root, err := os.OpenRoot(upper)
	if err != nil {
		return err
	}
	defer root.Close()
	deepest(s.made)
	for _, t := range s.made {
		name := strings.TrimPrefix(t, "/")
		st, err := root.Lstat(name)
		if err == nil && (st.IsDir() || st.Mode().IsRegular() && st.Size() == 0) {
			_ = root.Remove(name) // a directory with something in it stays
		}
	}
	var parents []string
	for t := range s.parents {
		parents = append(parents, t)
	}
	deepest(parents)
	for _, t := range parents {
		if name := strings.TrimPrefix(t, "/"); untouched(root, name, s.parents[t]) {
			_ = root.Remove(name)
		}
	}
	return nil
}

func deepest(paths []string) {
	slices.SortFunc(paths, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
}

// untouched says whether a directory of the upper says nothing that the layers
// below do not: empty, not opaque, with the owner and mode it had.
func untouched(root *os.Root, name string, was unix.Stat_t) bool {
	if st, err := root.Lstat(name); err != nil || !st.IsDir() {
		return false
	}
	d, err := root.Open(name)
	if err != nil {
		return false
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); !errors.Is(err, io.EOF) {
		return false
	}
	if n, err := unix.Fgetxattr(int(d.Fd()), "trusted.overlay.opaque", nil); err == nil && n > 0 {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(int(d.Fd()), &st) == nil && st.Mode == was.Mode && st.Uid == was.Uid && st.Gid == was.Gid
}
