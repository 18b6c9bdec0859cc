package build

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/davit-run/davit/engine/build/solver"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// PruneOptions say which part of the build cache goes.
type PruneOptions struct {
	// All takes also what images have in them, the directories of cache mounts
	// and what is remembered of contexts' files; otherwise only what no image
	// stands on.
	All bool
	// Before, when not zero, spares what was used since.
	Before time.Time
	// Keep is how many bytes of layers that only the cache knows may stay; the
	// least recently used go first. 0: none.
	Keep int64
	Dry  bool
}

// Usage is what the build cache takes.
type Usage struct {
	Records     int
	Bytes       int64 // of layers that no image and no container has
	Reclaimable int64
}

// An entry is one record of the cache and what it leads to.
type entry struct {
	path   string
	used   time.Time
	layers []string
}

// Prune removes parts of the cache, and then every layer that nothing refers
// to. kept adds the layers of images and containers. It waits until no build
// and no pull is at work.
func (b *Builder) Prune(ctx context.Context, o PruneOptions, kept func(map[string]bool) error) (layer.Freed, error) {
	lock, err := b.Layers.Exclude(ctx) // which tries once even when ctx has ended
	if err != nil {
		return layer.Freed{}, fmt.Errorf("prune the build cache: a build, pull or up is at work: %w", err)
	}
	defer lock.Release()
	inUse := map[string]bool{}
	if err := kept(inUse); err != nil {
		return layer.Freed{}, err
	}
	all := entries(b.Layout)
	stay, err := b.choose(all, inUse, o)
	if err != nil {
		return layer.Freed{}, err
	}
	keep := maps.Clone(inUse)
	for _, e := range all {
		if stay[e.path] {
			for _, l := range e.layers {
				keep[l] = true
			}
			continue
		}
		if !o.Dry {
			if err := store.Remove(e.path); err != nil {
				return layer.Freed{}, err
			}
		}
	}
	f, err := b.Layers.CollectLocked(ctx, func() (map[string]bool, error) { return keep, nil }, o.Dry)
	if err != nil || !o.All || !o.Before.IsZero() || o.Keep > 0 {
		return f, err
	}
	n, err := b.pruneMounts(o.Dry)
	f.Bytes += n
	if err == nil && !o.Dry {
		err = os.RemoveAll(filepath.Join(b.Layout.Cache(), "stat"))
	}
	return f, err
}

// choose returns the records that stay.
func (b *Builder) choose(all []entry, inUse map[string]bool, o PruneOptions) (map[string]bool, error) {
	stay := map[string]bool{}
	counted := maps.Clone(inUse)
	left := o.Keep
	for _, e := range all { // the most recently used first
		var bytes int64
		own := false
		for _, l := range e.layers {
			own = own || !inUse[l]
			if counted[l] {
				continue
			}
			n, err := b.Layers.Size(l)
			if err != nil {
				n = 0 // it cannot be believed, and goes in any case
			}
			bytes += n
		}
		switch {
		case !own && (!o.All || o.Keep > 0), !o.Before.IsZero() && e.used.After(o.Before):
		case o.Keep > 0 && bytes <= left:
			left -= bytes
		default:
			continue
		}
		stay[e.path] = true
		for _, l := range e.layers {
			counted[l] = true
		}
	}
	return stay, nil
}

// entries lists the cache's records, the most recently used first.
func entries(l store.Layout) []entry {
	var all []entry
	for _, kind := range []string{"keys", "http", "git"} {
		_ = filepath.WalkDir(filepath.Join(l.Cache(), kind), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil
			}
			layers, ok := solver.RecordLayers(p)
			st, serr := d.Info()
			if ok && serr == nil {
				all = append(all, entry{p, st.ModTime(), layers})
			}
			return nil
		})
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].used.After(all[j].used) })
	return all
}

// pruneMounts removes the directories of cache mounts that no step has.
func (b *Builder) pruneMounts(dry bool) (freed int64, err error) {
	base := filepath.Join(b.Layout.Cache(), "mounts")
	names, err := store.Names(base)
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		dir := filepath.Join(base, n)
		lock, err := store.TryAcquire(filepath.Join(dir, "lock"))
		if err != nil {
			continue
		}
		freed += size(dir)
		if !dry {
			err = os.RemoveAll(dir)
		}
		lock.Release()
		if err != nil {
			return freed, err
		}
	}
	return freed, nil
}

func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

// Usage says what the cache takes beside what images and containers have.
func (b *Builder) Usage(kept map[string]bool) (Usage, error) {
	var u Usage
	seen := map[string]bool{}
	for _, e := range entries(b.Layout) {
		u.Records++
		for _, l := range e.layers {
			if !kept[l] {
				seen[l] = true
			}
		}
	}
	for _, l := range slices.Sorted(maps.Keys(seen)) {
		if n, err := b.Layers.Size(l); err == nil {
			u.Bytes += n
		}
	}
	u.Reclaimable = u.Bytes
	u.Bytes += size(filepath.Join(b.Layout.Cache(), "mounts"))
	return u, nil
}
