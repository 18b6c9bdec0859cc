package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// Damage is something that a check of the store found wrong.
type Damage struct {
	What     string
	Repaired string // what was done about it; empty: nothing could be
}

// Check reads every record and verifies every digest of the store. With repair
// it takes away what is damaged where it can be had again, and tells.
func (e *Engine) Check(ctx context.Context, repair bool) ([]Damage, error) {
	lock, err := e.images.Layers().Exclude(ctx)
	if err != nil {
		return nil, fmt.Errorf("check the store: a build, pull or up is at work: %w", err)
	}
	defer lock.Release()
	k := &checker{e: e, ctx: ctx, repair: repair}
	for _, step := range []func() error{k.records, k.layers, k.images, k.names, k.cache, k.containers, k.volumes, k.leftovers} {
		if err := step(); err != nil {
			return k.found, err
		}
	}
	return k.found, nil
}

type checker struct {
	e      *Engine
	ctx    context.Context
	repair bool
	found  []Damage
}

func (k *checker) note(repaired, format string, args ...any) {
	if !k.repair {
		repaired = ""
	}
	k.found = append(k.found, Damage{fmt.Sprintf(format, args...), repaired})
}

// records holds every record against its checksum, and puts the generation
// before it in the place of one that is damaged. Where that is no better, the
// steps below tell.
func (k *checker) records() error {
	l := k.e.layout
	for _, top := range []string{l.Layers(), l.Images(), l.Volumes(), l.Networks(), l.Projects()} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || k.ctx.Err() != nil {
				return errors.Join(err, k.ctx.Err())
			}
			if d.IsDir() && slices.Contains(contents, d.Name()) {
				return fs.SkipDir
			}
			if d.IsDir() || !slices.Contains(recordNames, d.Name()) && top != l.Images() || strings.HasSuffix(path, "~") {
				return nil
			}
			damage, mended := store.Mend(path, k.repair)
			if damage != nil && mended {
				k.note("the generation before it was put back", "%v", damage)
			} else if damage != nil && filepath.Base(path) == "network.json" {
				k.note("", "%v: davit doctor --repair makes it anew", damage)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("check records: %w", err)
		}
	}
	return nil
}

// recordNames are the records that lie in the folder of what they are about,
// contents the folders of things that are not davit's.
var (
	recordNames = []string{"meta.json", "network.json", "project.json", "container.json", "state.json"}
	contents    = []string{"fs", "_data", "upper", "work", "log"}
)

// layers verifies every layer whose digest is known. A damaged one that no
// container stands on goes: the next pull, load or build brings it anew.
func (k *checker) layers() error {
	l := k.e.images.Layers()
	ids, err := store.Names(k.e.layout.Layers())
	if err != nil {
		return err
	}
	held := map[string]bool{}
	err = k.e.eachContainer(func(c *engine.Container) bool {
		keepAll(held, c.Layers)
		return true
	})
	// A container that cannot be read may stand on any of them.
	unknown := err != nil || k.e.reference(map[string]bool{}) != nil
	for _, id := range ids {
		err := l.Verify(k.ctx, id)
		switch {
		case k.ctx.Err() != nil:
			return k.ctx.Err()
		case err == nil || !layer.ValidID(id):
		case held[id] || unknown:
			k.note("", "%v; a container stands on it: pull its image anew after davit down", err)
		default:
			k.note("removed; pull or load its image again", "%v", err)
			if k.repair {
				if err := l.Remove(id); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// images checks what images are recorded to be. A record that cannot be read
// goes, unless a container has the image.
func (k *checker) images() error {
	used := k.e.imageUsers()
	all, err := k.e.images.Check()
	if err != nil {
		return err
	}
	for _, d := range all {
		if len(used[d.ID]) > 0 {
			k.note("", "%v; container %s stands on it", d.Err, used[d.ID][0])
			continue
		}
		k.note("removed; pull, load or build it again", "%v", d.Err)
		if k.repair {
			if err := k.e.images.Forget(d.ID); err != nil {
				return err
			}
		}
	}
	good, err := k.e.images.List()
	if err != nil && k.repair {
		k.note("", "%v", err)
	}
	for _, img := range good {
		if !k.e.images.Complete(img) {
			k.note("", "image %s (%s): layers of it are missing: pull or load it again", img.ID, strings.Join(img.Names, ", "))
		}
	}
	return nil
}

// names takes away names that cannot be read or name no image.
func (k *checker) names() error {
	for _, d := range k.e.images.CheckNames() {
		k.note("removed", "%v", d.Err)
		if k.repair {
			if err := store.Remove(d.Path); err != nil {
				return fmt.Errorf("check image names: %w", err)
			}
		}
	}
	return nil
}

// cache takes away what builds remember of layers that are not there.
func (k *checker) cache() error {
	l := k.e.images.Layers()
	return k.e.eachCached(func(path string, layers []string, ok bool) error {
		gone := slices.IndexFunc(layers, func(id string) bool { return !l.Has(id) })
		switch {
		case !ok:
			k.note("removed; the step will run again", "record %s of the build cache: not readable", path)
		case gone >= 0:
			k.note("removed; the step will run again", "record %s of the build cache: layer %.12s is missing", path, layers[gone])
		default:
			return nil
		}
		if !k.repair {
			return nil
		}
		return store.Remove(path)
	})
}

func (k *checker) containers() error {
	projects, err := store.Names(k.e.layout.Projects())
	if err != nil {
		return err
	}
	for _, p := range projects {
		ids, err := store.Names(k.e.layout.Containers(p))
		if err != nil {
			return err
		}
		for _, id := range ids {
			c, err := k.e.layout.LoadContainer(p, id)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				k.note("", "container %.12s of project %s: %v; davit -p %s down cleans it away", id, p, err, p)
			}
			if err != nil {
				continue
			}
			if _, err := k.e.layout.LoadState(p, id); err != nil {
				k.note("", "state of container %s: %v", c.Name, err)
			}
			for _, l := range c.Layers {
				if !k.e.images.Layers().Has(l) {
					k.note("", "container %s: its layer %.12s is missing: pull or build %s, then davit up", c.Name, l, c.Spec.Image)
				}
			}
		}
	}
	return nil
}

func (k *checker) volumes() error {
	all, err := k.e.volumes.List()
	if err != nil {
		k.note("", "%v", err)
	}
	for _, v := range all {
		if st, err := os.Lstat(k.e.layout.VolumeData(v.Name)); err != nil || !st.IsDir() {
			k.note("", "volume %s: it has no content directory", v.Name)
		}
	}
	return nil
}

// leftovers are of processes that died.
func (k *checker) leftovers() error {
	freed, err := k.e.images.Layers().CollectLocked(k.ctx, k.everything, !k.repair)
	if freed.Ingest > 0 {
		k.note("removed", "%d leftovers of interrupted work, %d bytes", freed.Ingest, freed.Bytes)
	}
	return err
}

// everything keeps all layers: a check removes only leftovers.
func (k *checker) everything() (map[string]bool, error) {
	ids, err := store.Names(k.e.layout.Layers())
	kept := make(map[string]bool, len(ids))
	keepAll(kept, ids)
	return kept, err
}
