package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store/inroot"
)

// tellStale tells of the anonymous volumes that a container goes on with, and
// that were filled from something else than what its image has there now: a
// node_modules, say, that hides the packages of the image just built. It is
// advice only, so what cannot be looked at is passed over.
func (e *Engine) tellStale(ctx context.Context, d Draft, c *engine.Container) {
	if e.warn == nil || d.Replaces == "" {
		return
	}
	old, err := e.layout.LoadContainer(d.Project, d.Replaces)
	if err != nil || old.ImageID == c.ImageID {
		return
	}
	kept := e.handedOn(old, c)
	if len(kept) == 0 {
		return
	}
	was, _, done, err := e.standing(ctx, engine.Snapshot{Container: *old}, ImageFiles)
	if err != nil {
		return
	}
	defer done()
	is, _, done, err := e.standing(ctx, engine.Snapshot{Container: *c}, ImageFiles)
	if err != nil {
		return
	}
	defer done()
	for _, target := range kept {
		if same, err := (&comparison{a: was, b: is}).same(target); err == nil && !same {
			e.warn(c.Name, fmt.Sprintf("the image's %s has changed, and the anonymous volume there hides it; "+
				"davit up -V (--renew-anon-volumes) fills a new one from the image", target))
		}
	}
}

// handedOn are the places of anonymous volumes that a container has from the
// one it replaces, and that were filled from the image.
func (e *Engine) handedOn(old, c *engine.Container) []string {
	var all []string
	for _, target := range slices.Sorted(maps.Keys(c.Volumes)) {
		if old.Volumes[target] != c.Volumes[target] || slices.ContainsFunc(c.Spec.Mounts, func(m engine.Mount) bool {
			return path.Clean(m.Target) == target && m.NoCopy
		}) {
			continue
		}
		if v, err := e.volumes.Get(c.Volumes[target]); err == nil && v.Anonymous {
			all = append(all, target)
		}
	}
	return all
}

// A comparison holds a directory of two roots against each other.
type comparison struct {
	a, b *inroot.Root
	seen int
}

const (
	// maxCompared bounds the entries that are looked at: two trees that are
	// alike so far are taken for alike.
	maxCompared = 200_000
	// maxMark is the size of the files directly in the directory whose content
	// counts: package managers keep note of all they installed in one.
	maxMark = 4 << 20
)

// same tells whether a directory holds the same names, with files of the same
// kinds, modes, owners and sizes, in both roots; the content of files counts
// directly in it.
func (c *comparison) same(dir string) (bool, error) {
	same, err := c.entry(dir)
	if err != nil || !same {
		return false, err
	}
	names, err := c.a.ReadDir(dir)
	if notThere(err) {
		return true, nil
	}
	for _, n := range names {
		if err != nil || !same {
			break
		}
		same, err = c.content(path.Join(dir, n))
	}
	return same, err
}

func notThere(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// entry compares what is at p, and all below it.
func (c *comparison) entry(p string) (bool, error) {
	a, err := c.a.Lstat(p)
	b, berr := c.b.Lstat(p)
	if notThere(err) || notThere(berr) {
		return notThere(err) && notThere(berr), nil
	}
	if err = errors.Join(err, berr); err != nil {
		return false, err
	}
	dir := a.Mode&unix.S_IFMT == unix.S_IFDIR
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev || !dir && a.Size != b.Size {
		return false, nil
	}
	if a.Mode&unix.S_IFMT == unix.S_IFLNK {
		return c.link(p)
	}
	if c.seen++; !dir || c.seen > maxCompared {
		return true, nil
	}
	return c.below(p)
}

func (c *comparison) link(p string) (bool, error) {
	a, err := c.a.Readlink(p)
	b, berr := c.b.Readlink(p)
	return a == b, errors.Join(err, berr)
}

func (c *comparison) below(dir string) (bool, error) {
	a, err := c.a.ReadDir(dir)
	b, berr := c.b.ReadDir(dir)
	if err = errors.Join(err, berr); err != nil {
		return false, err
	}
	slices.Sort(a)
	slices.Sort(b)
	if !slices.Equal(a, b) {
		return false, nil
	}
	for _, n := range a {
		if same, err := c.entry(path.Join(dir, n)); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// content compares a regular file that is not too large by what is in it.
func (c *comparison) content(p string) (bool, error) {
	if st, err := c.a.Lstat(p); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxMark {
		return true, err
	}
	a, err := c.a.ReadFile(p, maxMark)
	b, berr := c.b.ReadFile(p, maxMark)
	return bytes.Equal(a, b), errors.Join(err, berr)
}
