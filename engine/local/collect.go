package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build/solver"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// reference adds every layer that images and containers stand on. A container
// whose record cannot be read is an error: nothing is deleted that may be its.
func (e *Engine) reference(into map[string]bool) error {
	if err := e.images.Kept(into); err != nil {
		return err
	}
	projects, err := store.Names(e.layout.Projects())
	if err != nil {
		return err
	}
	for _, p := range projects {
		ids, err := store.Names(e.layout.Containers(p))
		if err != nil {
			return err
		}
		for _, id := range ids {
			c, err := e.layout.LoadContainer(p, id)
			if errors.Is(err, store.ErrNotFound) {
				continue // being removed, or not yet recorded
			}
			if err != nil {
				return fmt.Errorf("what container %.12s of project %s needs is not known: %w", id, p, err)
			}
			keepAll(into, c.Layers)
			for _, layers := range c.MountLayers {
				keepAll(into, layers)
			}
		}
	}
	return nil
}

// referenced names every layer that something refers to: images, containers,
// and what builds remember.
func (e *Engine) referenced() (map[string]bool, error) {
	kept := make(map[string]bool)
	if err := e.reference(kept); err != nil {
		return nil, err
	}
	for _, kind := range []string{"keys", "http", "git"} {
		err := filepath.WalkDir(filepath.Join(e.layout.Cache(), kind), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			layers, _ := solver.RecordLayers(path)
			keepAll(kept, layers)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return kept, nil
}

func keepAll(kept map[string]bool, ids []string) {
	for _, id := range ids {
		kept[id] = true
	}
}

// Collect deletes layers that nothing refers to and what dead processes left
// behind. It waits for builds, pulls and creations under way until ctx ends;
// with dry it only tells.
func (e *Engine) Collect(ctx context.Context, dry bool) (layer.Freed, error) {
	return e.images.Layers().Collect(ctx, e.referenced, dry)
}

// An ImagePrune says which images go.
type ImagePrune struct {
	All    bool // those with names too
	Before time.Time
	Labels []string // KEY or KEY=VALUE, all of which must be there
	Dry    bool
}

// PruneImages removes the images that no container has and the layers that
// nothing refers to any more.
func (e *Engine) PruneImages(ctx context.Context, o ImagePrune) (removed []image.Removed, freed layer.Freed, err error) {
	all, err := e.images.List()
	if err != nil {
		return nil, freed, err
	}
	used := e.imageUsers()
	for _, img := range all {
		if len(used[img.ID]) > 0 || len(img.Names) > 0 && !o.All || !o.Before.IsZero() && img.Created.After(o.Before) || !hasLabels(img.Config.Labels, o.Labels) {
			continue
		}
		if o.Dry {
			removed = append(removed, image.Removed{Untagged: img.Names, Deleted: img.ID})
			freed.Bytes += img.Size
			continue
		}
		r, err := e.images.Remove(img.ID, true, e.imageUser)
		if errors.Is(err, image.ErrNotFound) || errors.Is(err, image.ErrInUse) {
			continue // since a moment ago
		}
		if err != nil {
			return removed, freed, err
		}
		removed = append(removed, r)
	}
	if o.Dry {
		return removed, freed, nil
	}
	freed, err = e.Collect(ctx, false)
	return removed, freed, err
}

func hasLabels(have map[string]string, want []string) bool {
	return !slices.ContainsFunc(want, func(w string) bool {
		key, value, exact := strings.Cut(w, "=")
		v, ok := have[key]
		return !ok || exact && v != value
	})
}

// imageUsers names, for each image id, the containers that stand on it.
func (e *Engine) imageUsers() map[string][]string {
	users := make(map[string][]string)
	_ = e.eachContainer(func(c *engine.Container) bool {
		users[c.ImageID] = append(users[c.ImageID], c.Name)
		return true
	})
	return users
}

// ForgetFiles deletes contents of secrets that no container has, but for those
// that were put in the store by hand, and tells how many there were.
func (e *Engine) ForgetFiles(dry bool) (int, error) {
	gone, err := e.forgetFiles("", dry)
	return len(gone), err
}

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
	for _, step := range []func() error{k.layers, k.images, k.containers, k.volumes, k.leftovers} {
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

// layers verifies those whose archive is known. A damaged one that no
// container stands on goes: the next pull, load or build brings it anew.
func (k *checker) layers() error {
	l := k.e.images.Layers()
	all, err := l.List()
	if err != nil {
		k.note("", "%v", err)
	}
	held := map[string]bool{}
	_ = k.e.eachContainer(func(c *engine.Container) bool {
		keepAll(held, c.Layers)
		return true
	})
	for _, m := range all {
		if err := k.ctx.Err(); err != nil {
			return err
		}
		if !l.HasRecipe(m.ID) {
			continue // made here: there is nothing to hold it against
		}
		err := l.Tar(k.ctx, m.ID, io.Discard)
		switch {
		case err == nil:
		case k.ctx.Err() != nil:
			return k.ctx.Err()
		case held[m.ID]:
			k.note("", "%v; a container stands on it: pull its image anew after davit down", err)
		default:
			k.note("removed; pull or load its image again", "%v", err)
			if k.repair {
				if err := l.Remove(m.ID); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (k *checker) images() error {
	all, err := k.e.images.List()
	if err != nil {
		k.note("", "%v", err)
	}
	for _, img := range all {
		if config, err := k.e.images.Config(img.ID); err != nil {
			k.note("", "image %s: %v", img.ID, err)
		} else if parsed, err := image.Parse(config); err != nil {
			k.note("", "image %s: %v", img.ID, err)
		} else if len(img.DiffIDs) > 0 && parsed.ID != img.ID {
			k.note("", "image %s: its configuration has the digest %s", img.ID, parsed.ID)
		}
		if !k.e.images.Complete(img) {
			k.note("", "image %s (%s): layers of it are missing: pull or load it again", img.ID, strings.Join(img.Names, ", "))
		}
	}
	return nil
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
