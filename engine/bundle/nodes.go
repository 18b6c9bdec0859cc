package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	config "github.com/opencontainers/cgroups/devices/config"
	"golang.org/x/sys/unix"
)

// errNotDevice means that a path is something else than a device node.
var errNotDevice = errors.New("not a device node")

// node reads the device node at a path of the host.
func node(path string, perm config.Permissions) (*config.Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	var kind config.Type
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = config.BlockDevice
	case unix.S_IFCHR:
		kind = config.CharDevice
	default:
		return nil, errNotDevice
	}
	return &config.Device{
		Path: path, FileMode: os.FileMode(st.Mode &^ unix.S_IFMT), Uid: st.Uid, Gid: st.Gid,
		Rule: rule(kind, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), perm),
	}, nil
}

// nodes reads every device node below a directory of the host, but for the
// file systems that a container has of its own, and the console. Links are not
// followed.
func nodes(dir string, perm config.Permissions) ([]*config.Device, error) {
	own := map[string]bool{"pts": true, "shm": true, "fd": true, "mqueue": true, ".udev": true}
	var out []*config.Device
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone since it was listed
		case err != nil:
			return fmt.Errorf("list devices: %w", err)
		case e.IsDir() && path != dir && own[e.Name()]:
			return fs.SkipDir
		case e.Type()&fs.ModeDevice == 0, e.Name() == "console", e.Name() == "ptmx":
			return nil
		}
		n, err := node(path, perm)
		if errors.Is(err, errNotDevice) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			out = append(out, n)
		}
		return err
	})
	return out, err
}
