package anchor

import (
	"os"
	"strings"
)

// A hierarchy is one cgroup file system.
type hierarchy struct {
	dir     string // where it is mounted
	own     string // this process's path in it
	cpuset  bool   // v1: a group without cpus takes no process
	systemd bool   // where systemd, if it runs, keeps its own account of units
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
		hs = append(hs, hierarchy{dir: where[4], own: path, cpuset: strings.Contains(name, "cpuset"), systemd: name == "" || name == "name=systemd"})
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
