package runtime

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// cgroupPath is where the cgroup of a container is, from the root of every
// hierarchy: a deterministic name, so that it is found again without a record.
func cgroupPath(parent string, c *engine.Container) string {
	if c.Spec.Resources.CgroupParent != "" {
		parent = c.Spec.Resources.CgroupParent
	}
	if parent == "" {
		parent = path.Join("/davit", c.Project)
	}
	return path.Join("/", parent, c.ID)
}

// intentPath is the file that says where the cgroup of a container is, written
// before it is made.
func intentPath(state, id string) string { return filepath.Join(state, id+".cgroup") }

// Clean takes away whatever is left of a container in the kernel and in the
// runtime's state, whatever killed whom in between: its processes, cgroup,
// mounts and state directory. It does nothing where nothing is left.
func Clean(l store.Layout, project, id string) error {
	state := l.RuntimeState(project)
	cgroup, err := os.ReadFile(intentPath(state, id))
	if errors.Is(err, os.ErrNotExist) {
		cgroup = nil
	} else if err != nil {
		return fmt.Errorf("clean container %s: %w", id, err)
	}
	if err := wipe(state, id, l.Rootfs(project, id), string(cgroup)); err != nil {
		return fmt.Errorf("clean container %s: %w", id, err)
	}
	return nil
}

// OOMKilled says whether the kernel killed a process of a container for want of
// memory, for one that has ended without a keeper: its cgroup still knows.
func OOMKilled(l store.Layout, project, id string) (bool, error) {
	cgroup, err := os.ReadFile(intentPath(l.RuntimeState(project), id))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("memory of container %s: %w", id, err)
	}
	cg, err := manager.New(&cgroups.Cgroup{Path: string(cgroup), Resources: &cgroups.Resources{}})
	if err != nil {
		return false, fmt.Errorf("memory of container %s: %w", id, err)
	}
	n, err := cg.OOMKillCount()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return n > 0, err
}

// wipe is the one way in which a container ends. It does not ask libcontainer,
// which cannot load a container whose creator was killed half-way, nor create
// one where such a half is left: first the cgroup is emptied and removed, then
// the state directory.
func wipe(state, id, root, cgroup string) error {
	if cgroup != "" {
		if err := removeCgroup(cgroup); err != nil {
			return err
		}
	}
	if err := (&stage{root: root, dir: root + ".d"}).strike(); err != nil {
		return err
	}
	_ = os.Remove(root)
	if err := os.RemoveAll(filepath.Join(state, id)); err != nil {
		return fmt.Errorf("remove runtime state: %w", err)
	}
	err := os.Remove(intentPath(state, id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove runtime state: %w", err)
	}
	return nil
}

// removeCgroup kills what is in a cgroup of every hierarchy and removes it,
// and then its parents up to davit's own, as far as nothing else is in them.
func removeCgroup(cgroup string) error {
	if cgroup != path.Clean(cgroup) || !strings.HasPrefix(cgroup, "/") || cgroup == "/" {
		return fmt.Errorf("cgroup %q: not a path to remove", cgroup)
	}
	cg, err := manager.New(&cgroups.Cgroup{Path: cgroup, Resources: &cgroups.Resources{}})
	if err != nil {
		return fmt.Errorf("open cgroup %s: %w", cgroup, err)
	}
	if cg.Exists() {
		if err := killCgroup(cg); err != nil {
			return fmt.Errorf("empty cgroup %s: %w", cgroup, err)
		}
	}
	dirs := maps.Clone(cg.GetPaths()) // which Destroy empties
	if err := cg.Destroy(); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", cgroup, err)
	}
	if strings.HasPrefix(cgroup, "/davit/") {
		if strings.HasPrefix(cgroup, stepParent+"/") {
			_ = SweepSteps() // what is left of others is not this one's failure
		}
		removeParents(dirs)
	}
	return nil
}
