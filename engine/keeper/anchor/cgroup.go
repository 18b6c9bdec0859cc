package anchor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
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
	g.remove()
}

// remove removes the groups that nothing is left in, and reports whether all
// of the project's are gone.
func (g cgroups) remove() bool {
	gone := true
	for _, h := range g.mounts {
		dir := g.leaf(h)
		for i := range 3 {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				gone = gone && i == 2 // other projects are in the uppermost
				break
			}
			dir = filepath.Dir(dir)
		}
	}
	return gone
}

// Leave does for a dead anchor what it would have done last: the caller, its
// keeper, leaves the project's groups and removes them.
func Leave(project string) { cgroups{project, hierarchies()}.leave() }

// Sweep removes the groups of a project whose anchor has ended or was killed
// while it left. The caller is in none of them, and groups that anything lives
// in stay. A process gives its locks back a little before it is out of its
// groups (do_exit of Linux), which is waited for.
func Sweep(project string) {
	g := cgroups{project, hierarchies()}
	for end := time.Now().Add(dying); !g.remove() && time.Now().Before(end); {
		time.Sleep(500 * time.Microsecond)
	}
}

// dying is how long a process that has closed its files may take to leave its
// groups, on a host that has no time for it.
const dying = 10 * time.Second

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
