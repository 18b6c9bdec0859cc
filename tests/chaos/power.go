package chaos

import (
	"os"
	"path/filepath"

	"github.com/davit-run/davit/tests/kernel"
)

// NewDiskWorld makes a world whose root is a disk of its own (see NewDisk), with
// busybox in its store. Its goroutine stays locked to its thread.
func NewDiskWorld(project, dir string, size int64, options ...string) (*World, error) {
	w, err := unfurnished(project, dir)
	if err != nil {
		return nil, err
	}
	if w.disk, err = NewDisk(dir, size, options...); err != nil {
		return nil, err
	}
	w.Root = w.disk.Dir
	if _, err := w.Davit("load", "-i", "busybox.tar"); err != nil {
		return nil, err
	}
	w.before, err = w.place().Take()
	return w, err
}

// PowerOff cuts the power: the disk stays as it is at this moment.
func (w *World) PowerOff() error { return w.disk.Off() }

// PowerOn boots the machine again: of the davit before there is what the disk
// has got. Links and rules went with the network namespace.
func (w *World) PowerOn() error {
	if err := w.disk.On(); err != nil {
		return err
	}
	w.dropGroups()
	return kernel.Isolate()
}

// dropGroups removes the empty cgroups of the project, as a boot does.
func (w *World) dropGroups() {
	for _, top := range []string{"/sys/fs/cgroup/davit", "/sys/fs/cgroup/*/davit"} {
		groups, _ := filepath.Glob(filepath.Join(top, w.Project))
		for _, g := range groups {
			all, _ := filepath.Glob(g + "/*")
			for _, d := range append(all, g) {
				_ = os.Remove(d)
			}
		}
	}
}
