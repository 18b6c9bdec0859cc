package layer

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/davit-run/davit/engine/store"
)

// A Draft is a directory that somebody fills and that then becomes a layer
// without being copied: an overlay's upper directory during a build, say.
//
//	d, err := layers.NewDraft()
//	defer d.Discard()            // no harm after Commit
//	… mount an overlay with upperdir=d.FS, workdir=d.Work; run; unmount …
//	m, err := d.Commit(key)
type Draft struct {
	FS   string // becomes the layer's files
	Work string // on the same filesystem; emptied by Commit
	// Change marks the layer as one that only changes the one right below it in
	// every stack: outside this host they are one.
	Change bool
	s      *Store
	dir    *ingest
}

// NewDraft makes an empty draft. It belongs to this process: when the process
// dies, the collector removes it.
func (s *Store) NewDraft() (*Draft, error) {
	g, err := s.newIngest()
	if err != nil {
		return nil, err
	}
	d := &Draft{FS: filepath.Join(g.path, "fs"), Work: filepath.Join(g.path, "work"), s: s, dir: g}
	for _, dir := range []string{d.FS, d.Work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			g.discard()
			return nil, fmt.Errorf("make draft layer: %w", err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			g.discard()
			return nil, fmt.Errorf("make draft layer: %w", err)
		}
	}
	return d, nil
}

// Commit publishes the draft as layer id. Nothing may write to it any more,
// and no overlay may have it mounted. The layer counts from now on, but only
// in this boot until Settle has brought it to the disk. Where the layer
// already exists, the draft is dropped and the existing one returned.
func (d *Draft) Commit(id string) (Meta, error) {
	if !ValidID(id) {
		return Meta{}, fmt.Errorf("layer %q: not a layer id", id)
	}
	if err := os.RemoveAll(d.Work); err != nil {
		return Meta{}, fmt.Errorf("commit layer %s: %w", id, err)
	}
	m := Meta{ID: id, Size: -1, Created: time.Now().UTC(), BootID: bootID(), Change: d.Change}
	if err := store.WriteUnsynced(filepath.Join(d.dir.path, "meta.json"), m); err != nil {
		return Meta{}, fmt.Errorf("commit layer %s: %w", id, err)
	}
	if err := d.s.publish(d.dir, m); err != nil {
		return Meta{}, err
	}
	return d.s.Meta(id)
}

// Discard drops a draft that was not committed.
func (d *Draft) Discard() { d.dir.discard() }
