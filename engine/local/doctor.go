package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
)

// A Finding is something on this host that is not as its records say, or a
// record that nobody can read.
type Finding struct {
	Project string // empty: the host's
	What    string // what is wrong, with the file or process named
	Fix     string // what to do where Repair cannot; empty: Repair does it
}

// Doctor looks at every project, network, volume and image and at what the
// kernel has of them. It changes nothing.
func (e *Engine) Doctor(ctx context.Context) ([]Finding, error) {
	projects, err := e.known()
	if err != nil {
		return nil, err
	}
	var all []Finding
	if _, err := wire.FindRuntime(); err != nil {
		all = append(all, Finding{What: err.Error(), Fix: "install davit and davit-runtime side by side"})
	}
	for _, p := range projects {
		all = append(all, e.examine(ctx, p)...)
	}
	for _, name := range []string{"network.json", "runtime", "leases"} {
		all = append(all, e.examineRecords(e.layout.Networks(), name)...)
	}
	all = append(all, e.examineRecords(e.layout.Volumes(), "meta.json")...)
	return append(all, e.examineIngest()...), ctx.Err()
}

// known are the projects that have anything on disk, this boot's included.
func (e *Engine) known() ([]string, error) {
	names, err := store.Names(e.layout.Projects())
	if err != nil {
		return nil, err
	}
	running, err := store.Names(filepath.Dir(e.layout.RunProject("x")))
	if err != nil {
		return nil, err
	}
	names = append(names, running...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// examine holds one project's records against the kernel.
func (e *Engine) examine(ctx context.Context, project string) (all []Finding) {
	found := func(fix, what string, args ...any) {
		all = append(all, Finding{Project: project, What: fmt.Sprintf(what, args...), Fix: fix})
	}
	kept, err := e.kept(ctx, project)
	if err != nil {
		found("see "+e.layout.KeeperLog(project), "%v", err)
	}
	ids, err := store.Names(e.layout.Containers(project))
	if err != nil {
		found("see whether it is a directory", "%v", err)
	}
	boot := bootID()
	for _, id := range ids {
		c, s, err := e.both(project, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			if !kept {
				found("", "container %s was begun and never recorded", id)
			}
		case err != nil:
			found("davit -p "+project+" down removes it; its volumes stay", "%v", err)
		case kept:
		case s.Status == engine.Running || s.Status == engine.Paused || s.Status == engine.Restarting:
			found("", "container %s %s", c.Name, lost(s, boot))
		case s.Status == engine.Removing || s.Status == engine.Dead:
			found("", "container %s was not removed whole %s", c.Name, s.Error)
		}
	}
	if n, last := crashes(e.layout.KeeperLog(project), time.Now().Add(-10*time.Minute)); n >= 3 {
		found("see "+e.layout.KeeperLog(project), "its keeper died %d times in the last 10 minutes: %s", n, last)
	}
	if _, err := os.Lstat(e.layout.RunProject(project)); err == nil && !kept {
		found("", "%s is left of a keeper that died", e.layout.RunProject(project))
	}
	return all
}

func (e *Engine) both(project, id string) (*engine.Container, *engine.State, error) {
	c, err := e.layout.LoadContainer(project, id)
	if err != nil {
		return nil, nil, err
	}
	s, err := e.layout.LoadState(project, id)
	return c, s, err
}

func lost(s *engine.State, boot string) string {
	switch {
	case s.BootID != boot:
		return "is recorded as " + string(s.Status) + "; the host was restarted since"
	case s.Status == engine.Restarting:
		return "waits to be restarted, and there is no keeper to do it"
	case alive(s.PID, s.StartTicks):
		return fmt.Sprintf("runs as process %d without a keeper", s.PID)
	}
	return fmt.Sprintf("is recorded as %s; its process %d is gone", s.Status, s.PID)
}

// kept tells whether a keeper answers for a project.
func (e *Engine) kept(ctx context.Context, project string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := wire.Dial(ctx, e.layout, project)
	if errors.Is(err, wire.ErrNoKeeper) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := c.Call(ctx, wire.Request{Op: wire.OpHello}, nil); errors.Is(err, wire.ErrNoKeeper) {
		return false, nil
	} else if err != nil {
		return true, fmt.Errorf("keeper of %s does not answer: %w", project, err)
	}
	return true, nil
}

// crashes counts the keepers that died since a time, by what the anchor wrote.
func crashes(path string, since time.Time) (n int, last string) {
	f, err := os.Open(path)
	if err != nil {
		return 0, ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		stamp, rest, _ := strings.Cut(lines.Text(), " ")
		at, err := time.Parse(time.RFC3339, stamp)
		if err == nil && at.After(since) && strings.HasPrefix(rest, "anchor: keeper ended") {
			n, last = n+1, strings.TrimPrefix(rest, "anchor: ")
		}
	}
	return n, last
}

// examineRecords reads the record of everything in a directory.
func (e *Engine) examineRecords(dir, name string) (all []Finding) {
	names, err := store.Names(dir)
	if err != nil {
		return []Finding{{What: err.Error(), Fix: "see whether it is a directory"}}
	}
	for _, n := range names {
		var any json.RawMessage
		err := store.Read(filepath.Join(dir, n, name), &any)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			all = append(all, Finding{What: err.Error(), Fix: "restore the file, or remove " + filepath.Join(dir, n)})
		}
	}
	return all
}

// examineIngest finds layers that were begun by processes which are gone.
func (e *Engine) examineIngest() []Finding {
	names, err := os.ReadDir(e.layout.Ingest())
	if err != nil || len(names) == 0 {
		return nil
	}
	lock, err := store.TryAcquire(e.layout.Lock("content"))
	if err != nil {
		return nil // somebody is at work there
	}
	defer lock.Release()
	return []Finding{{What: fmt.Sprintf("%s holds %d unfinished downloads or layers", e.layout.Ingest(), len(names))}}
}

// Repair has a project's keeper do what every keeper does when it begins: take
// over what lives, destroy what no record refers to, make stand what is on
// record. Where nothing is left to keep it leaves, and the project's folders
// go when they are empty.
func (e *Engine) Repair(ctx context.Context, project string) error {
	if err := e.call(ctx, project, wire.Request{Op: wire.OpRepair}, nil); err != nil {
		return fmt.Errorf("repair project %s: %w", project, err)
	}
	left, err := store.Names(e.layout.Containers(project))
	if err != nil || len(left) > 0 {
		return err
	}
	return e.Shutdown(ctx, project)
}

// RepairStore removes what killed downloads and builds left unfinished. It
// waits for those at work, until ctx ends.
func (e *Engine) RepairStore(ctx context.Context) error {
	lock, err := e.images.Layers().Exclude(ctx)
	if err != nil {
		return fmt.Errorf("repair store: a build, pull or up is at work: %w", err)
	}
	defer lock.Release()
	entries, err := os.ReadDir(e.layout.Ingest())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, n := range entries {
		if err := os.RemoveAll(filepath.Join(e.layout.Ingest(), n.Name())); err != nil {
			return fmt.Errorf("repair store: %w", err)
		}
	}
	return nil
}

// sweepBegun removes what commands that were killed have begun and not
// recorded: directories of containers and of the project's volumes without a
// record. The caller has the project to itself.
func (e *Engine) sweepBegun(ctx context.Context, project string) error {
	ids, err := store.Names(e.layout.Containers(project))
	if err != nil {
		return err
	}
	for _, id := range ids {
		dir := e.layout.Container(project, id)
		if missing(filepath.Join(dir, "container.json")) && missing(filepath.Join(dir, "state.json")) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	names, err := store.Names(e.layout.Volumes())
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, project+"_") && e.unborn(n) {
			if err := e.dropUnborn(ctx, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// unborn tells a volume that was begun and has neither record nor content.
func (e *Engine) unborn(name string) bool {
	return missing(filepath.Join(e.layout.Volume(name), "meta.json")) && missing(e.layout.VolumeData(name))
}

func (e *Engine) dropUnborn(ctx context.Context, name string) error {
	lock, err := store.Acquire(ctx, e.layout.Lock("volume-"+name))
	if err != nil {
		return err
	}
	defer lock.Release()
	if !e.unborn(name) {
		return nil
	}
	return os.RemoveAll(e.layout.Volume(name))
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// A Damaged is a container or network of which no record can be read.
type Damaged struct {
	ID, Network string // one of them
	Err         error  // names the file
}

// Damage finds what a project has and nobody can read: down removes it by its
// name alone.
func (e *Engine) Damage(project string) (all []Damaged, err error) {
	ids, err := store.Names(e.layout.Containers(project))
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, _, err := e.both(project, id); err != nil {
			all = append(all, Damaged{ID: id, Err: err})
		}
	}
	names, err := store.Names(e.layout.Networks())
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if !strings.HasPrefix(n, project+"_") {
			continue
		}
		var rec engine.Network
		if err := store.Read(filepath.Join(e.layout.Network(n), "network.json"), &rec); err != nil {
			all = append(all, Damaged{Network: n, Err: err})
		}
	}
	return all, nil
}

// restoreNetwork puts a record in the place of one that nobody can read: what
// the kernel has of a network is found by its name.
func (e *Engine) restoreNetwork(project, name string) error {
	path := filepath.Join(e.layout.Network(name), "network.json")
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("restore network %s: %w", name, err)
	}
	return store.Write(path, engine.Network{Name: name, Project: project, ID: newID(), Driver: "bridge", Created: time.Now().UTC()})
}

// RemoveDamaged takes away the containers that Damage found, and makes the
// networks ones that can be removed.
func (e *Engine) RemoveDamaged(ctx context.Context, project string, d Damaged, volumes bool) error {
	if d.Network != "" {
		return e.restoreNetwork(project, d.Network)
	}
	return e.RemoveContainer(ctx, project, d.ID, volumes)
}

// foreign tells whether a damaged record is none of the project's, by its path.
func foreign(err error, project string) bool {
	var damaged *store.DamagedError
	return errors.As(err, &damaged) && !strings.HasPrefix(filepath.Base(filepath.Dir(damaged.Path)), project+"_")
}
