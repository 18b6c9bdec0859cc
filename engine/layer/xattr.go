package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrs adds an open file's extended attributes to its header, and tells
// whether it is an opaque directory.
func xattrs(fd int, h *tar.Header) (opaque bool, err error) {
	names, err := listXattr(fd)
	if err != nil {
		return false, fmt.Errorf("attributes of %q: %w", h.Name, err)
	}
	for _, name := range names {
		if name == opaqueXattr() {
			v, err := getXattr(fd, name)
			opaque = err == nil && string(v) == "y"
			continue
		}
		if !keptXattr(name) {
			continue
		}
		v, err := getXattr(fd, name)
		if err != nil {
			return false, fmt.Errorf("attribute %s of %q: %w", name, h.Name, err)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+name] = string(v)
	}
	return opaque, nil
}

func listXattr(fd int) ([]string, error) {
	var small [256]byte
	n, err := unix.Flistxattr(fd, small[:])
	b := small[:max(n, 0)]
	for errors.Is(err, unix.ERANGE) {
		if n, err = unix.Flistxattr(fd, nil); err != nil {
			break
		}
		b = make([]byte, n+1)
		n, err = unix.Flistxattr(fd, b)
		b = b[:max(n, 0)]
	}
	if errors.Is(err, unix.ENOTSUP) || len(b) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

func getXattr(fd int, name string) ([]byte, error) {
	n, err := unix.Fgetxattr(fd, name, nil)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n+1)
	n, err = unix.Fgetxattr(fd, name, b)
	return b[:max(n, 0)], err
}
