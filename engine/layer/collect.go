package layer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/davit-run/davit/engine/store"
)

// noticeable is how long somebody waits before they wonder.
const noticeable = 2 * time.Second

// Hold keeps the collector away until the lock is released or the process
// dies. Whoever makes layers, or relies on layers that no record refers to
// yet, holds it from before the first Has until the record (an image, a
// container, a build key) is written. Holders do not hinder each other. The
// first of them removes what makers that died have left.
func (s *Store) Hold(ctx context.Context) (*store.Lock, error) {
	s.tidy()
	return store.AcquireShared(ctx, s.layout.Lock("content"))
}

// tidy sweeps when there is anything to sweep and nobody is at work. That it
// could not is no reason not to work: the collector does it again.
func (s *Store) tidy() {
	if names, err := store.Names(s.layout.Ingest()); err != nil || len(names) == 0 {
		return
	}
	lock, err := store.TryAcquire(s.layout.Lock("content"))
	if err != nil {
		return
	}
	defer lock.Release()
	_ = s.sweep(new(Freed), false)
}

// Exclude waits until nobody holds the content, and keeps everybody from
// holding it until released: for whoever deletes what nothing refers to.
func (s *Store) Exclude(ctx context.Context) (*store.Lock, error) {
	if s.Waiting != nil {
		defer time.AfterFunc(noticeable, s.Waiting).Stop()
	}
	return store.Acquire(ctx, s.layout.Lock("content"))
}

// Freed is what a collection gave back.
type Freed struct {
	Layers []string // ids
	Ingest int      // leftovers of processes that died
	Bytes  int64    // of the files
}

// Collect deletes the layers that keep does not name and what dead processes
// left in the ingest directory. It waits for holders (see Hold) until ctx
// ends; keep is asked once they are gone, so it sees every record. With dry
// it only says what it would delete.
func (s *Store) Collect(ctx context.Context, keep func() (map[string]bool, error), dry bool) (Freed, error) {
	lock, err := s.Exclude(ctx)
	if err != nil {
		return Freed{}, fmt.Errorf("collect layers: a build, pull or up is at work: %w", err)
	}
	defer lock.Release()
	return s.CollectLocked(ctx, keep, dry)
}

// CollectLocked is Collect for a caller that holds the lock of Exclude.
func (s *Store) CollectLocked(ctx context.Context, keep func() (map[string]bool, error), dry bool) (Freed, error) {
	var f Freed
	kept, err := keep()
	if err != nil {
		return f, fmt.Errorf("collect layers: %w", err)
	}
	ids, err := store.Names(s.layout.Layers())
	if err != nil {
		return f, fmt.Errorf("collect layers: %w", err)
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		if kept[id] || !ValidID(id) {
			continue
		}
		f.Bytes += max(0, s.size(id))
		f.Layers = append(f.Layers, id)
		if dry {
			continue
		}
		if err := s.Remove(id); err != nil {
			return f, err
		}
	}
	return f, s.sweep(&f, dry)
}

// sweep removes ingest directories whose makers are dead.
func (s *Store) sweep(f *Freed, dry bool) error {
	names, err := store.Names(s.layout.Ingest())
	if err != nil {
		return fmt.Errorf("collect leftovers: %w", err)
	}
	for _, name := range names {
		path := filepath.Join(s.layout.Ingest(), name)
		st, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if st.IsDir() {
			lock, err := lockDir(path)
			if err != nil {
				continue // its maker lives
			}
			defer lock.Close()
		}
		n, _ := usage(path)
		f.Bytes += n
		f.Ingest++
		if dry {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("collect leftovers: %w", err)
		}
	}
	return nil
}

// size is the bytes of a layer's files, counted when the record does not know.
func (s *Store) size(id string) int64 {
	var m Meta
	if err := store.Read(s.metaPath(id), &m); err == nil && m.Size >= 0 {
		return m.Size
	}
	n, _ := usage(s.FS(id))
	return n
}

// Size returns the bytes of a layer's files, and remembers them.
func (s *Store) Size(id string) (int64, error) {
	m, err := s.Meta(id)
	if err != nil || m.Size >= 0 {
		return m.Size, err
	}
	if m.Size, err = usage(s.FS(id)); err != nil {
		return 0, fmt.Errorf("count layer %s: %w", id, err)
	}
	return m.Size, store.WriteUnsynced(s.metaPath(id), m)
}

// Sum returns the bytes of several layers' files together.
func (s *Store) Sum(ids []string) (int64, error) {
	var sum int64
	for _, id := range ids {
		n, err := s.Size(id)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// usage sums the regular files below dir, each inode once.
func usage(dir string) (int64, error) {
	var sum int64
	seen := map[inode]bool{}
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		if ino, shared := inodeOf(st); shared {
			if seen[ino] {
				return nil
			}
			seen[ino] = true
		}
		sum += st.Size()
		return nil
	})
	return sum, err
}
