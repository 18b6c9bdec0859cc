package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store/inroot"
)

// mount shows a stack of layers merged, without a mount point: the mount hangs
// on the returned root alone, so that nothing is left when this process dies.
// With a draft, writes go there; the mount is volatile (a plain one would sync
// the whole disk when it is let go), and its work directory good for no other.
func (h *Host) mount(layers []string, d *layer.Draft) (*inroot.Root, error) {
	lowers := make([]string, 0, len(layers)+1)
	for _, id := range slices.Backward(layers) {
		lowers = append(lowers, h.Layers.FS(id))
	}
	if d == nil && len(lowers) < 2 || len(lowers) == 0 {
		empty, err := h.empty()
		if err != nil {
			return nil, err
		}
		lowers = append(lowers, empty)
	}
	if d == nil && len(lowers) == 1 {
		return inroot.Open(lowers[0])
	}
	root, err := mountNew(lowers, d)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		root, err = mountOld(lowers, d, h.CacheDir)
	}
	if err != nil {
		return nil, fmt.Errorf("mount %d layers: %w", len(layers), err)
	}
	return root, nil
}

// empty is a directory that stands for no layer at all: overlayfs wants one
// lower with an upper, and two without.
func (h *Host) empty() (string, error) {
	dir := filepath.Join(h.CacheDir, "empty")
	return dir, os.MkdirAll(dir, 0o755)
}

var overlayOptions = []string{"index=off", "metacopy=off", "redirect_dir=off"}

// mountNew uses the mount API of Linux 6.8, whose lowerdir+ takes one layer at
// a time and knows no limit on their names.
func mountNew(lowers []string, d *layer.Draft) (*inroot.Root, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	set := func(k, v string) {
		if err == nil {
			err = unix.FsconfigSetString(fs, k, v)
		}
	}
	for _, l := range lowers {
		set("lowerdir+", l)
	}
	for _, o := range overlayOptions {
		k, v, _ := strings.Cut(o, "=")
		set(k, v)
	}
	if d != nil {
		set("upperdir", d.FS)
		set("workdir", d.Work)
		if err == nil {
			err = unix.FsconfigSetFlag(fs, "volatile")
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, err
	}
	attr := 0
	if d == nil {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, err
	}
	return inroot.New(os.NewFile(uintptr(fd), "overlay")), nil
}

// mountOld does the same with mount(2): names short enough for its one page of
// options by way of open descriptors, and the mount point given up at once.
func mountOld(lowers []string, d *layer.Draft, dir string) (*inroot.Root, error) {
	var names []string
	for _, l := range lowers {
		f, err := os.OpenFile(l, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	opts := append([]string{"lowerdir=" + strings.Join(names, ":")}, overlayOptions...)
	flags := uintptr(unix.MS_RDONLY)
	if d != nil {
		opts = append(opts, "upperdir="+d.FS, "workdir="+d.Work, "volatile")
		flags = 0
	}
	at, err := os.MkdirTemp(dir, ".mount-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(at)
	if err := unix.Mount("overlay", at, "overlay", flags, strings.Join(opts, ",")); err != nil {
		return nil, err
	}
	root, err := inroot.Open(at)
	if uerr := unix.Unmount(at, unix.MNT_DETACH); err == nil && uerr != nil {
		root.Close()
		return nil, uerr
	}
	return root, err
}

// View shows a snapshot to read from.
func (h *Host) View(s Snapshot) (scan.Tree, func() error, error) {
	if s.Tree != nil {
		return s.Tree, func() error { return nil }, nil
	}
	root, err := h.mount(s.Layers, nil)
	if err != nil {
		return nil, nil, err
	}
	t := scan.NewStack(root)
	return t, t.Close, nil
}

// materialise copies a context into a layer, for commands that mount it: a
// directory that is edited while the command runs would be no snapshot, and
// shows files that .dockerignore excludes.
func (h *Host) materialise(s Snapshot) ([]string, error) {
	o := &fileOp{host: h, base: -1}
	id, err := o.write(nil, false, func(root *inroot.Root) error {
		opts := copyin.Options{Contents: true, MakeDest: true}
		places, err := copyin.Plan(s.Tree, "/", root, "/", opts)
		if err != nil {
			return err
		}
		return copyin.Apply(context.Background(), s.Tree, root, places, opts)
	})
	if err != nil {
		return nil, err
	}
	return []string{id}, nil
}
