package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// The cgroups above containers are made with the first and removed with the
// last of them, by processes that do not know each other. A gate keeps one from
// removing a parent in which another is about to make its child: an flock(2)
// on the root of a hierarchy, shared by those who make, alone for those who
// remove. It needs no file, and a process that dies lets go of it.
type gate struct{ f *os.File }

func hierarchy() string {
	if cgroups.IsCgroup2UnifiedMode() {
		return "/sys/fs/cgroup"
	}
	if m, err := cgroups.FindCgroupMountpoint("", "devices"); err == nil {
		return m
	}
	return "/sys/fs/cgroup"
}

// enter takes the gate, waiting for those who remove: they are quick.
func enter() *gate {
	f, err := os.Open(hierarchy())
	if err != nil {
		return &gate{}
	}
	for errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH), unix.EINTR) {
	}
	return &gate{f}
}

// parents makes the groups above that of a build step, which no keeper has pinned.
// Whoever came through the gate before it removes none from here on; the anchor of
// davit's last project removes the uppermost as long as nothing is in it.
func parents(cgroup string) error {
	if !strings.HasPrefix(cgroup, stepParent+"/") {
		return nil
	}
	cg, err := manager.New(&cgroups.Cgroup{Path: cgroup, Resources: &cgroups.Resources{}})
	if err != nil {
		return fmt.Errorf("open cgroup %s: %w", cgroup, err)
	}
	for _, dir := range cg.GetPaths() {
		if err := store.MakeDirs(path.Dir(dir), 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

func (g *gate) leave() {
	if g != nil && g.f != nil {
		g.f.Close()
		g.f = nil
	}
}

// gateWait bounds how long a remover waits for those who are making; when it
// gives up, the next one to remove does its work.
const gateWait = 2 * time.Second

// removeParents removes the empty cgroups of davit's above dirs. Whoever is not
// the last of a project leaves at once.
func removeParents(dirs map[string]string) {
	empty := false
	for _, dir := range dirs {
		var st unix.Stat_t
		// A link for itself, one for its name, and one for every child.
		empty = empty || unix.Stat(path.Dir(dir), &st) == nil && st.Nlink <= 2
	}
	if !empty {
		return
	}
	f, err := os.Open(hierarchy())
	if err != nil {
		return
	}
	defer f.Close()
	deadline := time.Now().Add(gateWait)
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		if time.Now().After(deadline) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	for _, dir := range dirs {
		for p := path.Dir(dir); strings.Contains(p, "/davit"); p = path.Dir(p) {
			if os.Remove(p) != nil { // rmdir(2) refuses one in use
				break
			}
		}
	}
}
