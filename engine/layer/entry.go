package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store/inroot"
)

// A place is where an entry goes: a single name below an open directory. The
// root of the layer has no name.
type place struct {
	path   string // cleaned, relative to the layer's root
	parent int
	name   string
}

// clean checks a path of an archive and returns it relative to the root.
// Leading slashes and dots are usual; ".." is never needed and always refused
// (umoci CVE-2021-29136, go-archive CVE-2026-17106).
func (u *unpacker) clean(p string) (string, error) {
	if len(p) > u.limits.Path {
		return "", &LimitError{"bytes in a path", int64(u.limits.Path)}
	}
	if strings.IndexByte(p, 0) >= 0 {
		return "", errors.New("a path contains a NUL byte")
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return "", fmt.Errorf("path %q leaves its directory by \"..\"", p)
		}
	}
	return strings.TrimPrefix(path.Clean("/"+p), "/"), nil
}

func (u *unpacker) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := u.check(h); err != nil {
		return err
	}
	p, err := u.clean(h.Name)
	if err != nil {
		return err
	}
	if p == "" {
		return u.rootEntry(h)
	}
	parent, err := u.tree.dir(dirName(p))
	if err != nil {
		return err
	}
	at := place{p, parent, path.Base(p)}
	if strings.HasPrefix(at.name, whPrefix) {
		return u.whiteout(at)
	}
	return u.make(at, h)
}

func dirName(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// check refuses what no file can have, before anything is made.
func (u *unpacker) check(h *tar.Header) error {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	if len(h.Linkname) > u.limits.Path {
		return &LimitError{"bytes in a link target", int64(u.limits.Path)}
	}
	var pax, xattr int
	for k, v := range h.PAXRecords {
		pax += len(k) + len(v)
		if strings.HasPrefix(k, xattrPrefix) {
			xattr += len(k) - len(xattrPrefix) + len(v)
		}
	}
	if pax > u.limits.PAX {
		return &LimitError{"bytes in an entry's PAX records", int64(u.limits.PAX)}
	}
	if xattr > u.limits.Xattr {
		return &LimitError{"bytes in an entry's extended attributes", int64(u.limits.Xattr)}
	}
	return nil
}

// rootEntry sets the attributes of the layer's root. The root cannot be
// anything but a directory (umoci CVE-2021-29136).
func (u *unpacker) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return errors.New("the root of a layer must be a directory")
	}
	u.dirs = append(u.dirs, dirTime{"", h.ModTime})
	return setFd(u.tree.root, h)
}

func (u *unpacker) make(at place, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return u.makeDir(at, h)
	case tar.TypeReg, 0, tar.TypeCont, tar.TypeGNUSparse: // 0: archives older than ustar
		return u.makeFile(at, h)
	case tar.TypeLink:
		return u.makeLink(at, h)
	case tar.TypeSymlink:
		return u.makeSymlink(at, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.makeNode(at, h)
	}
	return fmt.Errorf("entries of type %q are not supported", string(h.Typeflag))
}

// vacate takes away what an earlier entry left at a place, and tells whether
// that was a whiteout.
func (u *unpacker) vacate(at place) (whiteout bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(at.parent, at.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if u.into != nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, errors.New("cannot overwrite a directory with a file")
	}
	whiteout = isWhiteout(&st)
	if !whiteout {
		u.replaced = true
	}
	if err := inroot.RemoveAt(at.parent, at.name); err != nil {
		return whiteout, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return whiteout, u.reopen(&at)
	}
	return whiteout, nil
}

// reopen drops all kept directories, because one of them may be gone, except
// the one that an entry is being made in.
func (u *unpacker) reopen(at *place) error {
	if at.parent == u.tree.root {
		u.tree.forget()
		return nil
	}
	dir := dirName(at.path)
	delete(u.tree.dirs, dir)
	u.tree.forget()
	u.tree.remember(dir, at.parent)
	return nil
}

// again retries a creation once after making room for it: the common case,
// where nothing is in the way, costs no look.
func (u *unpacker) again(at place, create func() error) error {
	err := create()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if _, err := u.vacate(at); err != nil {
		return err
	}
	return create()
}

func (u *unpacker) makeDir(at place, h *tar.Header) error {
	opaque := false
	err := unix.Mkdirat(at.parent, at.name, 0o700)
	if errors.Is(err, unix.EEXIST) && u.into != nil {
		return u.standing(at)
	}
	if errors.Is(err, unix.EEXIST) {
		opaque, err = u.existingDir(at)
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(at.parent, at.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	u.tree.remember(at.path, fd)
	u.dirs = append(u.dirs, dirTime{at.path, h.ModTime})
	if opaque {
		if err := setOpaque(fd); err != nil {
			return err
		}
	}
	return setFd(fd, h)
}

// existingDir prepares a place that is taken for a directory: a directory
// stays and takes the new attributes, anything else is replaced. A whiteout
// means that the directory hides the one below it: it becomes opaque.
func (u *unpacker) existingDir(at place) (opaque bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(at.parent, at.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, nil
	}
	if opaque, err = u.vacate(at); err != nil {
		return false, err
	}
	return opaque, unix.Mkdirat(at.parent, at.name, 0o700)
}

func (u *unpacker) makeSymlink(at place, h *tar.Header) error {
	if h.Linkname == "" {
		return errors.New("symbolic link without a target")
	}
	err := u.again(at, func() error { return unix.Symlinkat(h.Linkname, at.parent, at.name) })
	if err != nil {
		return err
	}
	return setAt(at, h)
}

// makeLink links to an entry made before. Its target passes the same
// resolver, so an absolute one (kaniko writes them) means the layer's root.
func (u *unpacker) makeLink(at place, h *tar.Header) error {
	target, err := u.clean(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link: %w", err)
	}
	if target == "" {
		return errors.New("hard link to a directory")
	}
	if target == at.path {
		return nil
	}
	parent, err := u.tree.open(dirName(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
	}
	defer unix.Close(parent)
	name := path.Base(target)
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || isWhiteout(&st) {
		return fmt.Errorf("hard link to %q, which is not in this layer", h.Linkname)
	}
	err = u.again(at, func() error { return unix.Linkat(parent, name, at.parent, at.name, 0) })
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
	}
	return nil
}

// makeNode makes a device or a FIFO. Without privileges devices cannot be
// made; they are left out and counted, as Docker's rootless mode does.
func (u *unpacker) makeNode(at place, h *tar.Header) error {
	mode := uint32(unix.S_IFIFO)
	dev := 0
	if h.Typeflag != tar.TypeFifo {
		// The kernel has 12 bits of major and 20 of minor number; more would
		// be cut to another device (containerd 0205398ac).
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Errorf("device number %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		dev = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
		mode = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			mode = unix.S_IFBLK
		}
	}
	err := u.again(at, func() error { return unix.Mknodat(at.parent, at.name, mode|0o600, dev) })
	if errors.Is(err, unix.EPERM) && mode != unix.S_IFIFO && unix.Geteuid() != 0 {
		u.skipped++
		return nil
	}
	if err != nil {
		return err
	}
	return setAt(at, h)
}
