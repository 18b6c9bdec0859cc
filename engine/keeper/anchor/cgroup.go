package anchor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// leafName is the group of anchor and keeper. It is a leaf, beside those of the
// containers: where a group has groups with controllers, it has no processes of
// its own (cgroups(7), "no internal processes").
const leafName = "keeper"

// A cgroups is the project's own place in every hierarchy of the host, such as
// davit/PROJECT below the root: the containers' groups are made in it, and
// pinned by the leaf of anchor and keeper. Those leave the group they were
// started in, so that the unit or job that typed `up` may end.
type cgroups struct {
	path   string // from the root of the hierarchies
	mounts []hierarchy
}

// own is a project's place where systemd has none for it.
func own(project string) string { return "/davit/" + project }

// Enter makes the project's own groups and moves processes into them wherever
// they are not at the root already. What cannot be done is left: the project
// runs on where it was started.
func Enter(project string, pids ...int) {
	cgroups{own(project), hierarchies()}.enter(func(h hierarchy) bool { return h.own != "/" }, pids...)
}

// enter makes the leaves everywhere, and moves processes into those of which
// that is asked, unless this one is there.
func (g cgroups) enter(which func(hierarchy) bool, pids ...int) {
	for _, h := range g.mounts {
		dir := g.leaf(h)
		if store.MakeDirs(dir, 0o755) != nil || !which(h) || h.own == g.path+"/"+leafName {
			continue
		}
		if h.cpuset {
			inheritCpuset(h.dir, filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir), dir)
		}
		for _, pid := range pids {
			if pid > 0 {
				_ = join(dir, pid)
			}
		}
	}
}

// leaveGroups moves this process, the last of a project, to each root and removes the
// groups that nothing is left in. A unit is systemd's to remove, and waited for.
func leaveGroups(l store.Layout, project string) {
	all := hierarchies()
	unit := inUnit(all, Unit(l, project))
	for _, h := range all {
		if h.own != "/" {
			_ = join(h.dir, os.Getpid())
		}
	}
	cgroups{own(project), all}.remove(settling, deserted)
	if unit != "" {
		cgroups{unit, all}.giveBack(settling, deserted)
	}
}

// Sweep removes the groups of a project whose anchor has ended, or was killed
// while it left. The caller is in none of them. A process gives its locks back a
// little before it is out of its groups (do_exit of Linux): that is waited for.
func Sweep(l store.Layout, project string) {
	all := hierarchies()
	cgroups{own(project), all}.remove(dying, func(dir string) bool {
		return filepath.Base(dir) != "davit" || deserted(dir)
	})
	if Booted() {
		cgroups{"/" + Slice + "/" + Unit(l, project), all}.giveBack(dying, func(dir string) bool {
			return filepath.Base(dir) != Slice || deserted(dir)
		})
	}
}

const (
	// settling bounds how long groups are waited for that the kernel calls busy
	// though nobody is in them.
	settling = time.Second
	// dying bounds how long a process that has closed its files is waited for,
	// on a host that has no time for it.
	dying = 10 * time.Second
)

// remove removes the project's groups, and davit's above them where no other
// project is in it. A group that rmdir(2) calls busy is tried again for so long
// as soon tells that it will be empty.
func (g cgroups) remove(patience time.Duration, soon func(dir string) bool) {
	settle(patience, g.leaves(everywhere), func(leaf string) bool { return removeUp(leaf, 3, soon) })
}

func everywhere(hierarchy) bool { return true }

func (g cgroups) leaf(h hierarchy) string { return filepath.Join(h.dir, g.path, leafName) }

func (g cgroups) leaves(which func(hierarchy) bool) (dirs []string) {
	for _, h := range g.mounts {
		if which(h) {
			dirs = append(dirs, g.leaf(h))
		}
	}
	return dirs
}

// settle does something about every group until it is done.
func settle(patience time.Duration, dirs []string, done func(dir string) bool) {
	deadline := time.Now().Add(patience)
	for dirs = slices.DeleteFunc(dirs, done); len(dirs) > 0 && time.Now().Before(deadline); dirs = slices.DeleteFunc(dirs, done) {
		time.Sleep(500 * time.Microsecond)
	}
}

// removeUp removes a leaf and the groups above it, so many in all, as far as
// nothing is in them. False asks for another try.
func removeUp(leaf string, many int, soon func(dir string) bool) bool {
	dir := leaf
	for range many {
		err := os.Remove(dir)
		if errors.Is(err, unix.EBUSY) {
			return !soon(dir)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return true
		}
		dir = filepath.Dir(dir)
	}
	return true
}

// deserted tells whether neither processes nor groups are in a group: rmdir(2)
// may call it busy for some milliseconds after its last process was waited for.
func deserted(dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Nlink > 2 { // itself, its name, and one for every child
		return false
	}
	pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	return err == nil && len(pids) == 0
}

func join(dir string, pid int) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

func inheritCpuset(dirs ...string) {
	for i := 1; i < len(dirs); i++ {
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			have, err := os.ReadFile(filepath.Join(dirs[i], name))
			if err != nil || len(bytes.TrimSpace(have)) > 0 {
				continue
			}
			if from, err := os.ReadFile(filepath.Join(dirs[i-1], name)); err == nil {
				_ = os.WriteFile(filepath.Join(dirs[i], name), from, 0)
			}
		}
	}
}
