package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/inroot"
)

// cache finds the directory of a cache mount: by a digest of its id, which is
// never a path (CVE-2024-23651).
func (r *run) cache(ctx context.Context, s *engine.RunStep, m *pb.Mount) error {
	h := r.op.host
	id := m.CacheOpt.GetID()
	if id == "" {
		id = m.Dest
	}
	dir, lock, err := h.cacheDir(ctx, Hash("cache", h.CacheNS, id)[:32], m.CacheOpt.GetSharing())
	if err != nil {
		return err
	}
	r.locks = append(r.locks, lock)
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		if err := r.fillCache(ctx, m, data); err != nil {
			return err
		}
	}
	s.Mounts = append(s.Mounts, engine.StepMount{Type: "bind", Source: data, Target: m.Dest, ReadOnly: m.Readonly})
	return nil
}

// fillCache makes a new cache directory, with the content, owner and mode that
// the instruction gives it, under another name first.
func (r *run) fillCache(ctx context.Context, m *pb.Mount, data string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(data), ".new-")
	if err != nil {
		return err
	}
	r.tmp = append(r.tmp, tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if m.Input >= 0 {
		if err := r.copyInto(ctx, r.in[m.Input], m.Selector, tmp); err != nil {
			return err
		}
	}
	err = os.Rename(tmp, data)
	if errors.Is(err, os.ErrExist) {
		return nil // another build was first
	}
	return err
}

func (r *run) copyInto(ctx context.Context, from Snapshot, selector, dir string) error {
	t, done, err := r.op.host.View(from)
	if err != nil {
		return err
	}
	defer done()
	e, err := t.Lstat(selector)
	if err != nil {
		return err
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	opts := copyin.Options{Contents: true, MakeDest: true}
	places, err := copyin.Plan(t, selector, root, "/", opts)
	if err != nil {
		return err
	}
	if err := copyin.Apply(ctx, t, root, places, opts); err != nil {
		return err
	}
	if err := os.Chown(dir, e.UID, e.GID); err != nil {
		return err
	}
	return os.Chmod(dir, os.FileMode(e.Mode&0o777)|sticky(e.Mode))
}

func sticky(mode uint32) os.FileMode {
	if mode&0o1000 != 0 {
		return os.ModeSticky
	}
	return 0
}

// cacheDir opens the directory of a cache mount under the lock that its sharing
// asks for: shared holders side by side, a private one with a directory nobody
// else has, a locked one alone.
func (h *Host) cacheDir(ctx context.Context, name string, sharing pb.CacheSharingOpt) (string, *store.Lock, error) {
	base := filepath.Join(h.CacheDir, "mounts", name)
	for n := 0; ; n++ {
		dir := base
		if n > 0 {
			dir = fmt.Sprintf("%s-%d", base, n)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
		lock := filepath.Join(dir, "lock")
		switch sharing {
		case pb.CacheSharingOpt_SHARED:
			l, err := store.AcquireShared(ctx, lock)
			return dir, l, err
		case pb.CacheSharingOpt_LOCKED:
			l, err := store.Acquire(ctx, lock)
			return dir, l, err
		}
		l, err := store.TryAcquire(lock)
		if err == nil || !errors.Is(err, store.ErrLocked) {
			return dir, l, err
		}
	}
}
