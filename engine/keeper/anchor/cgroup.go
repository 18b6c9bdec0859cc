package anchor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroups is the project's own place in every hierarchy of the host:
// davit/PROJECT/keeper below the root. It pins davit/PROJECT, where the
// containers' groups are made, and takes anchor and keeper out of the group
// they were started in, so that the unit or job that typed `up` may end.
type cgroups struct {
	project string
	mounts  []hierarchy
}

type hierarchy struct {
	dir     string // where it is mounted
	own     string // this process's path in it
	cpuset  bool   // v1: a group without cpus takes no process
	unified bool
}

// enter makes the groups and moves the processes into them wherever they are
// not at the root already. What cannot be done is left: the project runs on
// where it was started.
func enter(project string, pids ...int) cgroups {
	g := cgroups{project: project, mounts: hierarchies()}
	for _, h := range g.mounts {
		dir := g.leaf(h)
		if !make3(dir) || h.own == "/" {
			continue
		}
		if h.cpuset {
			inheritCpuset(h.dir, filepath.Join(h.dir, "davit"), filepath.Dir(dir), dir)
		}
		for _, pid := range pids {
			if pid > 0 {
				_ = join(dir, pid)
			}
		}
	}
	return g
}

// leave moves this process to each root and removes the groups that nothing is
// left in.
func (g cgroups) leave() {
	for _, h := range g.mounts {
		if h.own != "/" {
			_ = join(h.dir, os.Getpid())
		}
	}
	g.remove(settling, deserted)
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
	var busy []string
	for _, h := range g.mounts {
		busy = append(busy, g.leaf(h))
	}
	removed := func(leaf string) bool { return removeUp(leaf, soon) }
	deadline := time.Now().Add(patience)
	for busy = slices.DeleteFunc(busy, removed); len(busy) > 0 && time.Now().Before(deadline); busy = slices.DeleteFunc(busy, removed) {
		time.Sleep(500 * time.Microsecond)
	}
}

// removeUp removes a leaf and the two groups above it, as far as nothing is in
// them. False asks for another try.
func removeUp(leaf string, soon func(dir string) bool) bool {
	dir := leaf
	for range 3 {
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

// Leave does for a dead anchor what it would have done last: the caller, its
// keeper, leaves the project's groups and removes them.
func Leave(project string) { cgroups{project, hierarchies()}.leave() }

// Sweep removes the groups of a project whose anchor has ended, or was killed
// while it left. The caller is in none of them. A process gives its locks back a
// little before it is out of its groups (do_exit of Linux): that is waited for.
func Sweep(project string) {
	cgroups{project, hierarchies()}.remove(dying, func(dir string) bool {
		return filepath.Base(dir) != "davit" || deserted(dir)
	})
}

func (g cgroups) leaf(h hierarchy) string { return filepath.Join(h.dir, "davit", g.project, "keeper") }

// make3 makes the leaf and the two directories above it, although an anchor of
// another project may be removing the upper ones at this moment.
func make3(dir string) bool {
	for range 100 {
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			return true
		}
		if !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return false
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

// hierarchies are the cgroup file systems mounted on this host whose root we
// see, with our own path in each (cgroups(7)).
func hierarchies() []hierarchy {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	own := ownGroups()
	seen := make(map[string]bool)
	var hs []hierarchy
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if !ok || len(where) < 5 || len(what) < 3 || where[3] != "/" {
			continue
		}
		name := controllers(what)
		if name == "-" || seen[name] {
			continue
		}
		seen[name] = true
		path, known := own[name]
		if !known {
			path = "/"
		}
		hs = append(hs, hierarchy{dir: where[4], own: path, cpuset: strings.Contains(name, "cpuset"), unified: name == ""})
	}
	return hs
}

// controllers names a hierarchy as /proc/self/cgroup does: empty for v2, "-"
// for what is no hierarchy.
func controllers(what []string) string {
	switch what[0] {
	case "cgroup2":
		return ""
	case "cgroup":
	default:
		return "-"
	}
	var names []string
	for _, o := range strings.Split(what[2], ",") {
		if o != "rw" && o != "ro" && !strings.HasPrefix(o, "release_agent=") && o != "xattr" && o != "clone_children" && o != "noprefix" {
			names = append(names, o)
		}
	}
	return strings.Join(names, ",")
}

func ownGroups() map[string]string {
	own := make(map[string]string)
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return own
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			own[f[1]] = f[2]
		}
	}
	return own
}
