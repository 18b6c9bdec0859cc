package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// ExtractOptions say how an archive is unpacked into a tree that is in use.
type ExtractOptions struct {
	// Dir is the directory below the root to unpack in; it must exist. Links
	// on the way to it, and below it, are followed inside the root.
	Dir string
	// Owner is whose everything becomes; nil: as the archive says.
	Owner *Owner
	// NoDevices refuses device nodes.
	NoDevices bool
}

// An Owner is a user and a group by number.
type Owner struct{ UID, GID int }

// Extract unpacks a tar below an open directory, which somebody may be
// changing meanwhile (CVE-2018-15664, CVE-2026-41568): every name is resolved
// and made through descriptors, so that nothing outside root is ever touched.
// What is there stays, unless a file of the archive takes a file's place; a
// directory and a file never replace each other. The caller keeps root open.
func Extract(ctx context.Context, r io.Reader, root *os.File, o ExtractOptions) error {
	fd, err := unix.FcntlInt(root.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	t := &tree{root: fd, dirs: map[string]int{}}
	defer t.close()
	limits := Limits{Entries: math.MaxInt64, Bytes: math.MaxInt64, Sparse: math.MaxInt64}.fill("/")
	u := &unpacker{tree: t, limits: limits, buf: make([]byte, 256<<10), into: &o}
	u.src = newSource(ctx, r, nil)
	u.tar = tar.NewReader(u.src)
	for {
		h, err := u.tar.Next()
		if err == io.EOF {
			return u.setDirTimes()
		}
		if err != nil {
			return u.broken(err)
		}
		u.entries++
		if err := u.place(h); err != nil {
			return fmt.Errorf("%.200s: %w", h.Name, err)
		}
	}
}

// place makes one entry below the directory asked for.
func (u *unpacker) place(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := u.check(h); err != nil {
		return err
	}
	if u.into.NoDevices && (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) {
		return errors.New("device nodes are not copied out of containers")
	}
	p, err := u.clean(h.Name)
	if err != nil {
		return err
	}
	if p == "" {
		return nil // the directory itself, which is as it is
	}
	if h.Typeflag == tar.TypeLink {
		target, err := u.clean(h.Linkname)
		if err != nil {
			return err
		}
		h.Linkname = path.Join(u.into.Dir, target)
	}
	if o := u.into.Owner; o != nil {
		h.Uid, h.Gid = o.UID, o.GID
	}
	p = strings.TrimPrefix(path.Join("/", u.into.Dir, p), "/")
	parent, err := u.tree.dir(dirName(p))
	if err != nil {
		return err
	}
	return u.make(place{p, parent, path.Base(p)}, h)
}

// standing opens the directory that is at a place already, links followed
// inside the root. It keeps its owner, mode and times.
func (u *unpacker) standing(at place) error {
	fd, err := u.tree.open(at.path, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return errors.New("cannot overwrite a file with a directory")
	}
	if err != nil {
		return err
	}
	u.tree.remember(at.path, fd)
	return nil
}

// TarAt writes the entry base of the open directory parent, with everything
// below it, as an archive in which it is called name. It holds on to
// descriptors as TarDir does.
func TarAt(ctx context.Context, parent *os.File, base, name string, w io.Writer, o TarOptions) error {
	p := newPacker(ctx, w, o)
	fd, err := unix.Open(procPath(int(parent.Fd()), ""), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", parent.Name(), err)
	}
	defer unix.Close(fd)
	if base == "" {
		err = p.dir(fd, name)
	} else {
		err = p.one(fd, base, name)
	}
	if err != nil {
		return err
	}
	return p.close()
}
