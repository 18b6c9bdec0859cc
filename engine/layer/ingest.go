package layer

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// An ingest is a directory in which something is made before it is believed.
// It is locked for as long as its maker lives: what is not locked is left
// over from a process that died, and the collector's.
type ingest struct {
	path string
	lock *os.File
}

func (s *Store) newIngest() (*ingest, error) {
	dir := s.layout.Ingest()
	for range 10 {
		path := filepath.Join(dir, random())
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("make ingest directory: %w", err)
		}
		f, err := lockDir(path)
		if err == nil {
			return &ingest{path, f}, nil
		}
		// The collector was between our mkdir and our lock: once more.
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, store.ErrLocked) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("make ingest directory in %s: it is removed again and again", dir)
}

// lockDir locks a directory exclusively, without waiting (flock(2)).
func lockDir(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, store.ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if _, err := os.Lstat(path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (g *ingest) discard() {
	if g.lock == nil {
		return
	}
	_ = os.RemoveAll(g.path)
	g.release()
}

func (g *ingest) release() {
	g.lock.Close()
	g.lock = nil
}

// publish moves the directory to layers/<id> in one step. Where the layer
// already is, somebody else was quicker and ours is dropped: one result.
func (s *Store) publish(g *ingest, m Meta) error {
	if err := os.MkdirAll(s.layout.Layers(), 0o700); err != nil {
		return fmt.Errorf("publish layer %s: %w", m.ID, err)
	}
	for range 3 {
		err := unix.Renameat2(unix.AT_FDCWD, g.path, unix.AT_FDCWD, s.layout.Layer(m.ID), unix.RENAME_NOREPLACE)
		if err == nil {
			g.release()
			return nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("publish layer %s: %w", m.ID, err)
		}
		if s.Has(m.ID) {
			g.discard()
			return nil
		}
		// What is in our place was never synced, or is damaged.
		if err := s.Remove(m.ID); err != nil {
			return err
		}
	}
	return fmt.Errorf("publish layer %s: its place is taken again and again", m.ID)
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
