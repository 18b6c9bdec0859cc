package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/inroot"
)

// CopyUp gives an empty volume what an image has at path: the directory's own
// owner and mode, and its content with owners, modes, times, hard links and
// extended attributes. root is the container's root file system; path is
// resolved inside it, whatever links it goes through (CVE-2022-23648). A
// volume that holds anything, a path that is missing and one that is no
// directory are left alone, and are no error.
//
// A copy that was interrupted, by a power cut even, is finished by the next
// CopyUp: a mark beside the content says that it is under way, files appear
// whole, and what is there already is not touched.
func (s *Store) CopyUp(ctx context.Context, root *os.Root, path, name string) error {
	if err := check(name); err != nil {
		return err
	}
	src, err := openInside(root, path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copy %s into volume %s: %w", path, name, err)
	}
	defer unix.Close(src)
	lock, err := store.Acquire(ctx, s.lock(name))
	if err != nil {
		return fmt.Errorf("copy %s into volume %s: %w", path, name, err)
	}
	defer lock.Release()
	if err := s.copyUp(ctx, src, name); err != nil {
		return fmt.Errorf("copy %s into volume %s: %w", path, name, err)
	}
	return nil
}

func openInside(root *os.Root, path string) (int, error) {
	dir, err := root.Open(".")
	if err != nil {
		return -1, err
	}
	defer dir.Close()
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

func (s *Store) copyUp(ctx context.Context, src int, name string) error {
	mark := filepath.Join(s.layout.Volume(name), "copyup")
	dst, err := unix.Open(s.layout.VolumeData(name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	begun := exists(mark)
	if have, err := inroot.Names(dst); err != nil || len(have) > 0 && !begun {
		return err
	}
	names, err := inroot.Names(src)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return copyAttributes(src, dst)
	}
	if !begun {
		if err := store.WriteFile(mark, nil, 0o600); err != nil {
			return err
		}
	}
	c := &copier{ctx: ctx, links: map[key]place{}}
	defer c.close()
	if err := c.dir(src, dst); err != nil {
		return err
	}
	if err := unix.Syncfs(dst); err != nil {
		return err
	}
	return os.Remove(mark)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

type key struct{ dev, ino uint64 }

// A place is a name in an open directory.
type place struct {
	dir  int
	name string
}

// A copier copies a tree by descriptors of both sides, a name at a time.
type copier struct {
	ctx   context.Context
	links map[key]place // where the first name of a file with several went
	kept  []int
}

func (c *copier) close() {
	for _, fd := range c.kept {
		unix.Close(fd)
	}
}

// maxKept bounds the descriptors held for hard links; further ones become
// files of their own.
const maxKept = 256

// partial begins the names of files that are still being copied.
const partial = ".davit-copyup-"

func (c *copier) dir(src, dst int) error {
	names, err := inroot.Names(src)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.one(src, dst, n); err != nil {
			return fmt.Errorf("%q: %w", n, err)
		}
	}
	return copyAttributes(src, dst)
}

func (c *copier) one(src, dst int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return c.subdir(src, dst, name)
	case unix.S_IFREG:
		return c.file(src, dst, name, &st)
	case unix.S_IFLNK:
		return copyLink(src, dst, name, &st)
	case unix.S_IFSOCK:
		return nil // means nothing without its listener
	}
	return copyNode(dst, name, &st)
}

func (c *copier) subdir(src, dst int, name string) error {
	if err := unix.Mkdirat(dst, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	from, err := unix.Openat(src, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := unix.Openat(dst, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return c.dir(from, to)
}

func (c *copier) file(src, dst int, name string, st *unix.Stat_t) error {
	if first, ok := c.links[key{uint64(st.Dev), st.Ino}]; ok && st.Nlink > 1 {
		return unless(unix.EEXIST, unix.Linkat(first.dir, first.name, dst, name, 0))
	}
	if err := c.remember(dst, name, st); err != nil {
		return err
	}
	var have unix.Stat_t
	if unix.Fstatat(dst, name, &have, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return nil // from the copy that was interrupted
	}
	from, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	tmp := partial + fmt.Sprint(st.Ino)
	if err := unless(unix.ENOENT, unix.Unlinkat(dst, tmp, 0)); err != nil {
		return err
	}
	to, err := unix.Openat(dst, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	err = copyContent(from, to, st.Size)
	if err == nil {
		err = copyAttributes(from, to)
	}
	if err == nil {
		err = unless(unix.EEXIST, unix.Renameat2(dst, tmp, dst, name, unix.RENAME_NOREPLACE))
	}
	if err != nil {
		_ = unix.Unlinkat(dst, tmp, 0)
	}
	return err
}

// remember keeps where a file with several names went.
func (c *copier) remember(dst int, name string, st *unix.Stat_t) error {
	if st.Nlink < 2 || len(c.kept) >= maxKept {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(dst), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	c.kept = append(c.kept, fd)
	c.links[key{uint64(st.Dev), st.Ino}] = place{fd, name}
	return nil
}

func unless(tolerated, err error) error {
	if errors.Is(err, tolerated) {
		return nil
	}
	return err
}

// copyContent lets the kernel copy, and shares blocks where it can.
func copyContent(from, to int, size int64) error {
	for size > 0 {
		n, err := unix.CopyFileRange(from, nil, to, nil, int(min(size, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			return copyByHand(from, to)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		size -= int64(n)
	}
	return nil
}

func copyByHand(from, to int) error {
	buf := make([]byte, 128<<10)
	for {
		n, err := unix.Read(from, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		for b := buf[:n]; len(b) > 0; {
			w, err := unix.Write(to, b)
			if err != nil && err != unix.EINTR {
				return err
			}
			b = b[max(w, 0):]
		}
	}
}

func copyLink(src, dst int, name string, st *unix.Stat_t) error {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(src, name, buf)
	if err != nil {
		return err
	}
	if err := unless(unix.EEXIST, unix.Symlinkat(string(buf[:n]), dst, name)); err != nil {
		return err
	}
	if err := chown(dst, name, st); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dst, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyNode(dst int, name string, st *unix.Stat_t) error {
	err := unix.Mknodat(dst, name, st.Mode, int(st.Rdev))
	if errors.Is(err, unix.EPERM) && unix.Geteuid() != 0 {
		return nil // a device, which only the superuser makes
	}
	if err := unless(unix.EEXIST, err); err != nil {
		return err
	}
	if err := chown(dst, name, st); err != nil {
		return err
	}
	fd, err := unix.Openat(dst, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	if err := unix.Chmod(path, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

func chown(dir int, name string, st *unix.Stat_t) error {
	err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EPERM) && unix.Geteuid() != 0 {
		return nil
	}
	return err
}

// copyAttributes copies owner, mode, extended attributes and times from one
// open file or directory to another, in the order in which they last.
func copyAttributes(from, to int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	err := unix.Fchown(to, int(st.Uid), int(st.Gid))
	if err != nil && !(errors.Is(err, unix.EPERM) && unix.Geteuid() != 0) {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", to), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

func copyXattrs(from, to int) error {
	if n, err := unix.Flistxattr(from, nil); err != nil || n == 0 {
		return unless(unix.ENOTSUP, err)
	}
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(from, list)
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "" {
			continue // overlayfs counts attributes of its own that it does not list
		}
		if strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "security.") && name != "security.capability" {
			continue // the overlay's own, or the host's security module's
		}
		n, err := unix.Fgetxattr(from, name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err == nil {
			err = unix.Fsetxattr(to, name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}
