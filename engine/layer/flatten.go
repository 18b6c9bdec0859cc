package layer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store/inroot"
)

// Flatten returns a stack in which every layer that is only a change (see
// Draft.Change) is one with the layer it changes. What was changed away is in
// none of them: an image that leaves this host carries no older versions of
// files, nor those that were taken out of the build context again. The caller
// holds the content (Hold).
func (s *Store) Flatten(ctx context.Context, ids []string) ([]string, error) {
	chains, err := s.Chains(ids)
	if err != nil {
		return nil, err
	}
	flat := make([]string, len(chains))
	for i, c := range chains {
		if flat[i] = c[0]; len(c) == 1 {
			continue
		}
		if flat[i], err = s.union(ctx, c); err != nil {
			return nil, fmt.Errorf("flatten %d layers: %w", len(c), err)
		}
	}
	return flat, nil
}

// Flattened is how many layers Flatten would return.
func (s *Store) Flattened(ids []string) (int, error) {
	chains, err := s.Chains(ids)
	return len(chains), err
}

// Chains are a stack's layers, lowest first, each with the changes of it.
func (s *Store) Chains(ids []string) ([][]string, error) {
	var all [][]string
	for len(ids) > 0 {
		n := 1
		for n < len(ids) {
			m, err := s.Meta(ids[n])
			if err != nil {
				return nil, err
			}
			if !m.Change {
				break
			}
			n++
		}
		all, ids = append(all, ids[:n]), ids[n:]
	}
	return all, nil
}

// union makes one layer of several, lowest first, of hard links to their files.
func (s *Store) union(ctx context.Context, ids []string) (string, error) {
	sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
	id := "flat-" + hex.EncodeToString(sum[:])
	lock, err := s.Claim(ctx, id)
	if err != nil {
		return "", err
	}
	defer lock.ReleaseRemove()
	if s.Has(id) {
		return id, nil
	}
	d, err := s.NewDraft()
	if err != nil {
		return "", err
	}
	defer d.Discard()
	var stack []level
	defer func() {
		for _, l := range stack {
			unix.Close(l.fd)
		}
	}()
	for i, below := range slices.Backward(ids) {
		fd, err := openDir(unix.AT_FDCWD, s.FS(below))
		if err != nil {
			return "", err
		}
		stack = append(stack, level{fd, i == 0})
	}
	to, err := openDir(unix.AT_FDCWD, d.FS)
	if err != nil {
		return "", err
	}
	defer unix.Close(to)
	if err := fuse(ctx, to, stack); err != nil {
		return "", err
	}
	_, err = d.Commit(id)
	return id, err
}

// A level is one layer's version of a directory.
type level struct {
	fd     int
	lowest bool // of the layer that the others change
}

// A version is what one layer has at a name.
type version struct {
	level
	st unix.Stat_t
}

func (v version) isDir() bool { return v.st.Mode&unix.S_IFMT == unix.S_IFDIR }

func openDir(at int, name string) (int, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	return fd, nil
}

// fuse fills a directory with what overlayfs would show of several, the
// uppermost first.
func fuse(ctx context.Context, to int, stack []level) error {
	versions := map[string][]version{}
	for _, l := range stack {
		names, err := inroot.Names(l.fd)
		if err != nil {
			return err
		}
		for _, n := range names {
			v := version{level: l}
			if err := unix.Fstatat(l.fd, n, &v.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return fmt.Errorf("stat %s: %w", n, err)
			}
			versions[n] = append(versions[n], v)
		}
	}
	for n, all := range versions {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fuseName(ctx, to, n, all); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}

func fuseName(ctx context.Context, to int, name string, all []version) error {
	top, last := all[0], all[len(all)-1]
	switch {
	case isWhiteout(&top.st):
		// The lowest layer's may be about the layers below; those of a change
		// are about the chain alone.
		if last.lowest && isWhiteout(&last.st) {
			return unix.Mknodat(to, name, unix.S_IFCHR|0o600, 0)
		}
		return nil
	case top.isDir():
		return fuseDir(ctx, to, name, all)
	}
	return unix.Linkat(top.fd, name, to, name, 0)
}

// fuseDir makes a directory of those that are merged: down to an opaque one, or
// to what is none.
func fuseDir(ctx context.Context, to int, name string, all []version) (err error) {
	var stack []level
	defer func() {
		for _, l := range stack {
			unix.Close(l.fd)
		}
	}()
	hides := false // from the layers below what the lowest layer hid
	for _, v := range all {
		if !v.isDir() {
			hides = hides || all[len(all)-1].lowest
			break
		}
		fd, err := openDir(v.fd, name)
		if err != nil {
			return err
		}
		stack = append(stack, level{fd, v.lowest})
		if b, err := getXattr(fd, opaqueXattr()); err == nil && string(b) == "y" {
			hides = hides || v.lowest
			break
		}
	}
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	fd, err := openDir(to, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := fuse(ctx, fd, stack); err != nil {
		return err
	}
	if hides {
		if err := setOpaque(fd); err != nil {
			return err
		}
	}
	return likeDir(fd, stack[0].fd, &all[0].st)
}

// likeDir gives a directory another one's attributes.
func likeDir(to, from int, st *unix.Stat_t) error {
	names, err := listXattr(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !keptXattr(n) {
			continue
		}
		v, err := getXattr(from, n)
		if err == nil {
			err = unix.Fsetxattr(to, n, v, 0)
		}
		if err != nil {
			return fmt.Errorf("copy attribute %s: %w", n, err)
		}
	}
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil && !unprivileged(err) {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(to, ""), []unix.Timespec{st.Mtim, st.Mtim}, 0)
}
