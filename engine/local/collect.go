package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	err := e.eachCached(func(_ string, layers []string, _ bool) error {
		keepAll(kept, layers)
		return nil
	})
	return kept, err
}

// eachCached calls see for every record of the build cache, with the layers it
// names; ok tells whether it could be read.
func (e *Engine) eachCached(see func(path string, layers []string, ok bool) error) error {
	for _, kind := range []string{"keys", "http", "git"} {
		err := filepath.WalkDir(filepath.Join(e.layout.Cache(), kind), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, "~") || strings.HasPrefix(d.Name(), ".") {
				return err
			}
			layers, ok := solver.RecordLayers(path)
			return see(path, layers, ok)
		})
		if err != nil {
			return err
		}
	}
	return nil
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
