package ops

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/store/inroot"
)

// sweep takes the empty files and directories out of a command's layer that
// were only made so that something could be mounted there. It works below the
// layer's own directory, follows no link, and leaves what is not empty
// (CVE-2024-23652), what an image below has, and what was there before.
func sweep(upper string, targets []string, below func(string) bool) error {
	root, err := inroot.Open(upper)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, t := range targets {
		for p := scan.Clean(t); p != "" && p != "."; p = path.Dir(p) {
			gone, err := sweepOne(root, p, below)
			if err != nil {
				return err
			}
			if !gone {
				break
			}
		}
	}
	return nil
}

func sweepOne(root *inroot.Root, p string, below func(string) bool) (bool, error) {
	if below(p) || throughLink(root, p) {
		return false, nil
	}
	st, err := root.Lstat(p)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return true, nil // its parents may be ours all the same
	}
	if err != nil {
		return false, err
	}
	dir, base, err := root.Parent(p)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0:
		err = unix.Unlinkat(int(dir.Fd()), base, 0)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		err = unix.Unlinkat(int(dir.Fd()), base, unix.AT_REMOVEDIR)
	default:
		return false, nil
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

// throughLink says whether a link lies on the way to p.
func throughLink(root *inroot.Root, p string) bool {
	for d := path.Dir(p); d != "." && d != "/"; d = path.Dir(d) {
		st, err := root.Lstat(d)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return true
		}
	}
	return false
}
