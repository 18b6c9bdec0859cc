package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// xattrPrefix marks extended attributes in PAX records.
const xattrPrefix = "SCHILY.xattr."

const (
	whPrefix  = ".wh."
	whMeta    = whPrefix + whPrefix // aufs' own files; only the opaque mark means anything
	whOpaque  = whMeta + ".opq"
	xattrBase = "overlay.opaque"
)

// setFd gives an open file or directory its owner, mode and extended
// attributes. The order matters: chown clears setuid bits and capabilities.
func setFd(fd int, h *tar.Header) error {
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil && !unprivileged(err) {
		return fmt.Errorf("set owner: %w", err)
	}
	if err := unix.Fchmod(fd, permissions(h)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	for k, v := range h.PAXRecords {
		name, ok := wantedXattr(k)
		if !ok {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(v), 0); err != nil && !tolerable(name, err) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return nil
}

// setAt is setFd for what cannot be opened: links, devices, FIFOs.
func setAt(at place, h *tar.Header) error {
	fd, err := unix.Openat(at.parent, at.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchownat(fd, "", h.Uid, h.Gid, unix.AT_EMPTY_PATH); err != nil && !unprivileged(err) {
		return fmt.Errorf("set owner: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Chmod(procPath(fd, ""), permissions(h)); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	for k, v := range h.PAXRecords {
		name, ok := wantedXattr(k)
		if !ok {
			continue
		}
		if err := unix.Lsetxattr(procPath(at.parent, at.name), name, []byte(v), 0); err != nil && !tolerable(name, err) {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	return setTimes(at.parent, at.name, h.ModTime)
}

func permissions(h *tar.Header) uint32 { return uint32(h.Mode) & 0o7777 }

// unprivileged tells whether a chown failed only because this is no
// superuser: then everything belongs to the user, as in other rootless tools.
func unprivileged(err error) bool { return errors.Is(err, unix.EPERM) && unix.Geteuid() != 0 }

// wantedXattr returns the attribute that a PAX record sets. The overlay's own
// attributes are never taken from an archive: they would hide or redirect
// other layers' files. Labels of a security module belong to the host.
func wantedXattr(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, xattrPrefix)
	if !ok || strings.Contains(name, "\x00") {
		return "", false
	}
	return name, keptXattr(name)
}

func keptXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "user.overlay."), strings.HasPrefix(name, "trusted."):
		return false
	case strings.HasPrefix(name, "security."):
		return name == "security.capability"
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_")
}

// tolerable tells whether an attribute may be left out: file capabilities
// never, as a program that misses them fails in ways nobody understands.
func tolerable(name string, err error) bool {
	if unprivileged(err) {
		return true
	}
	return name != "security.capability" && (errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM))
}

// setTimes sets the modification time of name in the directory fd, or of fd
// itself when there is no name.
func setTimes(fd int, name string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	times := []unix.Timespec{ts, ts}
	if name == "" {
		// Not AT_EMPTY_PATH: it needs Linux 5.8 here.
		err = unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd, ""), times, 0)
	} else {
		err = unix.UtimesNanoAt(fd, name, times, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// setDirTimes sets directories' times at last, because making a file in one
// changes its time.
func (u *unpacker) setDirTimes() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := u.setDirTime(u.dirs[i]); err != nil {
			return fmt.Errorf("directory %q: %w", u.dirs[i].path, err)
		}
	}
	return nil
}

func (u *unpacker) setDirTime(d dirTime) error {
	if fd, ok := u.tree.dirs[d.path]; ok {
		return setTimes(fd, "", d.time)
	}
	fd, err := u.tree.open(d.path, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // a later entry took its place
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return setTimes(fd, "", d.time)
}

// isWhiteout tells whether a file is overlayfs' mark of a deletion.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// opaqueXattr is overlayfs' mark of a directory that hides the ones below:
// trusted for the superuser, user with the mount option userxattr.
func opaqueXattr() string {
	if os.Geteuid() != 0 {
		return "user." + xattrBase
	}
	return "trusted." + xattrBase
}

func setOpaque(fd int) error {
	if err := unix.Fsetxattr(fd, opaqueXattr(), []byte("y"), 0); err != nil {
		return fmt.Errorf("mark opaque: %w", err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// inodeOf identifies a file, and tells whether it has several names.
func inodeOf(st os.FileInfo) (inode, bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, false
	}
	return inode{uint64(sys.Dev), sys.Ino}, sys.Nlink > 1
}
