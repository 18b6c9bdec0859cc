package local

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/volume"
)

// Containers are a project's containers with their states, by name. A
// container whose process is gone although no exit was recorded is told as
// exited: whoever starts a keeper next learns more.
func (e *Engine) Containers(_ context.Context, project string) ([]engine.Snapshot, error) {
	ids, err := store.Names(e.layout.Containers(project))
	if err != nil {
		return nil, err
	}
	all, err := e.snapshots(project, ids)
	if err != nil {
		return nil, err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// snapshots reads the records of containers, several at once.
func (e *Engine) snapshots(project string, ids []string) ([]engine.Snapshot, error) {
	boot := bootID()
	found, errs := make([]*engine.Snapshot, len(ids)), make([]error, len(ids))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (len(ids)+7)/8) {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
				s, err := e.snapshot(project, ids[i], boot)
				if err == nil {
					found[i] = &s
				} else if !errors.Is(err, store.ErrNotFound) {
					errs[i] = err
				} // else it was made but not recorded, or removed just now
			}
		})
	}
	readers.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var all []engine.Snapshot
	for _, s := range found {
		if s != nil {
			all = append(all, *s)
		}
	}
	return all, nil
}

// State is what is known of one container.
func (e *Engine) State(_ context.Context, project, id string) (engine.State, error) {
	s, err := e.snapshot(project, id, bootID())
	return s.State, err
}

func (e *Engine) snapshot(project, id, boot string) (engine.Snapshot, error) {
	c, err := e.layout.LoadContainer(project, id)
	if err != nil {
		return engine.Snapshot{}, err
	}
	st, err := e.layout.LoadState(project, id)
	if err != nil {
		return engine.Snapshot{}, err
	}
	return engine.Snapshot{Container: *c, State: truth(*st, boot)}, nil
}

// truth holds a recorded state against the kernel: a process of another boot,
// or one whose PID another process has by now, does not run.
func truth(s engine.State, boot string) engine.State {
	switch s.Status {
	case engine.Running, engine.Paused:
		if s.BootID == boot && alive(s.PID, s.StartTicks) {
			return s
		}
		s.Status, s.PID = engine.Exited, 0
	case engine.Restarting:
		if s.BootID != boot {
			s.Status = engine.Exited
		}
	}
	return s
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// alive says whether the process that started at the given tick (proc(5),
// field 22 of /proc/PID/stat) still exists under its PID, zombies included.
func alive(pid int, ticks uint64) bool {
	if pid <= 0 {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	// The name, field 2, may hold anything; what follows its last bracket not.
	_, rest, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" "))
	if !ok {
		return false
	}
	fields := bytes.Fields(rest)
	if len(fields) < 20 {
		return false
	}
	return string(fields[19]) == strconv.FormatUint(ticks, 10)
}

// Projects names the projects that have containers on this host.
func (e *Engine) Projects(context.Context) ([]string, error) {
	return store.Names(e.layout.Projects())
}

// Networks are those of the named networks that exist.
func (e *Engine) Networks(_ context.Context, names []string) (map[string]engine.Network, error) {
	found := make(map[string]engine.Network, len(names))
	for _, name := range names {
		var n engine.Network
		err := store.Read(filepath.Join(e.layout.Network(name), "network.json"), &n)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = n
	}
	return found, nil
}

// ProjectNetworks are the networks that carry a project's name.
func (e *Engine) ProjectNetworks(ctx context.Context, project string) (map[string]engine.Network, error) {
	names, err := store.Names(e.layout.Networks())
	if err != nil {
		return nil, err
	}
	found := make(map[string]engine.Network)
	for _, name := range names {
		one, err := e.Networks(ctx, []string{name})
		if err != nil && !foreign(err, project) {
			return nil, err
		}
		if n, ok := one[name]; ok && n.Project == project {
			found[name] = n
		}
	}
	return found, nil
}

// Volumes are those of the named volumes that exist.
func (e *Engine) Volumes(_ context.Context, names []string) (map[string]engine.Volume, error) {
	found := make(map[string]engine.Volume, len(names))
	for _, name := range names {
		v, err := e.volumes.Get(name)
		if errors.Is(err, volume.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[name] = v
	}
	return found, nil
}

// ProjectVolumes are the volumes that carry a project's name.
func (e *Engine) ProjectVolumes(_ context.Context, project string) (map[string]engine.Volume, error) {
	all, err := e.volumes.List()
	if err != nil && !foreign(err, project) {
		return nil, err
	}
	found := make(map[string]engine.Volume)
	for _, v := range all {
		if v.Project == project {
			found[v.Name] = v
		}
	}
	return found, nil
}

// Images tells the ids of those of the references that are present.
func (e *Engine) Images(_ context.Context, refs []string) (map[string]string, error) {
	found := make(map[string]string, len(refs))
	for _, ref := range refs {
		img, err := e.images.Resolve(ref)
		if errors.Is(err, image.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[ref] = img.ID
	}
	return found, nil
}

// LogDir is where a container's journal lies.
func (e *Engine) LogDir(project, id string) string {
	return filepath.Join(e.layout.Container(project, id), "log")
}
