package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/layer"
)

// PruneBuilds removes parts of the build cache, and every layer that no image,
// container or cache record refers to.
func (e *Engine) PruneBuilds(ctx context.Context, o build.PruneOptions) (layer.Freed, error) {
	b := build.Builder{Layout: e.layout, Layers: e.images.Layers()}
	return b.Prune(ctx, o, e.reference)
}

// The build cache is held to a tenth of the disk, and to no less than minCache
// bytes; it is looked at once in pruneEvery.
const (
	minCache   = 10 << 30
	pruneEvery = time.Hour
)

// limitCache takes the least recently used of the build cache when it has
// grown too large. It never waits: while another build is at work, the next
// one does it.
func (e *Engine) limitCache() error {
	stamp := filepath.Join(e.layout.Cache(), "pruned")
	if st, err := os.Stat(stamp); err == nil && time.Since(st.ModTime()) < pruneEvery {
		return nil
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(e.layout.Cache(), &disk); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if err := os.WriteFile(stamp, nil, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := e.PruneBuilds(ctx, build.PruneOptions{Keep: max(minCache, int64(disk.Blocks)*disk.Bsize/10)})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// A Share is one kind of thing that takes space, as system df tells it; bytes.
type Share struct {
	Total, Active     int
	Size, Reclaimable int64
}

// Usage is what davit's data takes.
type Usage struct{ Images, Containers, Volumes, Cache Share }

// DiskUsage counts what images, containers, volumes and the build cache take.
// Layers that several images have are counted once.
func (e *Engine) DiskUsage(ctx context.Context) (Usage, error) {
	var u Usage
	used, living, imageIDs := map[string]bool{}, map[string]bool{}, map[string]bool{}
	err := e.eachContainer(func(c *engine.Container) bool {
		n := below(filepath.Join(e.layout.Container(c.Project, c.ID), "upper"))
		u.Containers.Total++
		u.Containers.Size += n
		if st, err := e.State(ctx, c.Project, c.ID); err == nil && st.Status == engine.Running {
			u.Containers.Active++
		} else {
			u.Containers.Reclaimable += n
		}
		imageIDs[c.ImageID] = true
		for _, v := range c.Volumes {
			living[v] = true
		}
		for _, l := range c.Layers {
			used[l] = true
		}
		return true
	})
	if err != nil {
		return u, err
	}
	kept := map[string]bool{}
	if err := e.reference(kept); err != nil {
		return u, err
	}
	if err := e.imageShare(&u.Images, imageIDs, used); err != nil {
		return u, err
	}
	volumes, err := e.volumes.List()
	if err != nil {
		return u, err
	}
	for _, v := range volumes {
		n := below(e.layout.VolumeData(v.Name))
		u.Volumes.Total++
		u.Volumes.Size += n
		if living[v.Name] {
			u.Volumes.Active++
		} else {
			u.Volumes.Reclaimable += n
		}
	}
	b := build.Builder{Layout: e.layout, Layers: e.images.Layers()}
	c, err := b.Usage(kept)
	u.Cache = Share{Total: c.Records, Size: c.Bytes, Reclaimable: c.Reclaimable}
	return u, err
}

func (e *Engine) imageShare(s *Share, active, used map[string]bool) error {
	all, err := e.images.List()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, img := range all {
		s.Total++
		if active[img.ID] {
			s.Active++
		}
		for _, l := range img.Layers {
			if seen[l] {
				continue
			}
			seen[l] = true
			n, err := e.images.Layers().Size(l)
			if err != nil {
				continue // its layer is gone: it takes nothing
			}
			s.Size += n
			if !used[l] {
				s.Reclaimable += n
			}
		}
	}
	return nil
}

// below sums the regular files of a tree.
func below(dir string) (n int64) {
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
