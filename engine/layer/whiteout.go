package layer

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// whiteout turns the archive's mark of a deletion (image-spec layer.md,
// "Whiteouts") into overlayfs' own: a 0/0 character device in the name's
// place, or an attribute on the directory. It concerns the layers below
// alone: what this layer has itself stays, and nothing is ever deleted.
func (u *unpacker) whiteout(at place) error {
	if at.name == whOpaque {
		return u.opaque(at)
	}
	if strings.HasPrefix(at.name, whMeta) {
		return nil // .wh..wh.plnk and its like: aufs' own housekeeping
	}
	hidden := strings.TrimPrefix(at.name, whPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return fmt.Errorf("whiteout of %q", hidden)
	}
	err := unix.Mknodat(at.parent, hidden, unix.S_IFCHR|0o600, 0)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at.parent, hidden, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	fd, err := unix.Openat(at.parent, hidden, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return setOpaque(fd)
}

func (u *unpacker) opaque(at place) error {
	fd, err := unix.Openat(at.parent, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return setOpaque(fd)
}
