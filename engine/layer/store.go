package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// ErrNotFound means that there is no such layer, or none that can be believed.
var ErrNotFound = errors.New("no such layer")

// A Store is the layers of one data directory. Any number of processes use
// it at once: a layer appears whole by one rename, and never changes again.
type Store struct {
	layout store.Layout
	// Limits apply to every layer that is unpacked.
	Limits Limits
	// Waiting, unless nil, is called when Exclude has been waiting for a while
	// for those who hold the content.
	Waiting func()
}

// Open returns the layers of a layout. Nothing is made before it is needed.
func Open(l store.Layout) *Store { return &Store{layout: l} }

// Meta is what is recorded of a layer.
type Meta struct {
	ID      string    `json:"id"`
	DiffID  string    `json:"diffID,omitempty"`  // hex sha256 of the layer's tar; empty until it is known
	Size    int64     `json:"size"`              // bytes of the files; -1: not counted yet
	TarSize int64     `json:"tarSize,omitempty"` // bytes of the layer's tar; 0 until DiffID is known
	Entries int64     `json:"entries,omitempty"`
	Created time.Time `json:"created"`
	// BootID is the boot in which the layer was made, until its files are
	// known to have reached the disk. After another boot it is not believed.
	BootID string `json:"bootID,omitempty"`
	// Change marks a layer that only changes the one right below it, as a later
	// run of the step that made that one (see Flatten).
	Change bool `json:"change,omitempty"`
	// Skipped counts entries that could not be made without privileges.
	Skipped int64 `json:"skipped,omitempty"`
}

// Has tells whether the layer exists and can be believed.
func (s *Store) Has(id string) bool {
	_, err := s.Meta(id)
	return err == nil
}

// Meta reads a layer's record. A layer that is missing, or was not synced
// before the machine last stopped, is ErrNotFound.
func (s *Store) Meta(id string) (Meta, error) {
	var m Meta
	if !ValidID(id) {
		return m, fmt.Errorf("layer %q: not a layer id", id)
	}
	err := store.Read(s.metaPath(id), &m)
	if errors.Is(err, store.ErrNotFound) {
		return m, fmt.Errorf("layer %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return m, fmt.Errorf("layer %s: %w", id, err)
	}
	if m.BootID != "" && m.BootID != bootID() {
		return m, fmt.Errorf("layer %s: not synced before the last boot: %w", id, ErrNotFound)
	}
	return m, nil
}

// FS is the directory that holds a layer's files: an overlay's lower.
func (s *Store) FS(id string) string { return s.layout.LayerFS(id) }

func (s *Store) metaPath(id string) string {
	return filepath.Join(s.layout.Layer(id), "meta.json")
}

// List returns the layers that can be believed, in no particular order.
func (s *Store) List() ([]Meta, error) {
	ids, err := store.Names(s.layout.Layers())
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var all []Meta
	for _, id := range ids {
		if m, err := s.Meta(id); err == nil {
			all = append(all, m)
		}
	}
	return all, nil
}

// Remove deletes a layer; one that is not there is no error. It is out of
// sight at once (renamed away), so that nobody meets half a layer.
func (s *Store) Remove(id string) error {
	if !ValidID(id) {
		return fmt.Errorf("layer %q: not a layer id", id)
	}
	if err := os.MkdirAll(s.layout.Ingest(), 0o700); err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	gone := filepath.Join(s.layout.Ingest(), "gone-"+random())
	err := os.Rename(s.layout.Layer(id), gone)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if errors.Is(err, unix.ENOTEMPTY) {
		// Another process was about to write the record (RecordSettled, Size)
		// when the layer was renamed away: nothing can come after that.
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	return nil
}

// Claim takes the exclusive right to make one layer, so that of several
// processes that need it one does the work: look again with Has afterwards.
func (s *Store) Claim(ctx context.Context, id string) (*store.Lock, error) {
	if !ValidID(id) {
		return nil, fmt.Errorf("layer %q: not a layer id", id)
	}
	return store.Acquire(ctx, s.layout.Lock("layer-"+id))
}

// Settle waits until every layer of this boot has reached the disk, and
// records that. It is the background half of Draft.Commit.
func (s *Store) Settle() error {
	arrived, err := s.Flush()
	if err != nil {
		return err
	}
	return s.RecordSettled(arrived)
}

// Flush waits until every layer of this boot has reached the disk, and returns
// those of which that is not recorded yet. It writes no file of its own: a
// process may end in the middle of it and leaves nothing.
func (s *Store) Flush() ([]Meta, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	unsynced := slices.DeleteFunc(all, func(m Meta) bool { return m.BootID == "" })
	if len(unsynced) == 0 {
		return nil, nil
	}
	return unsynced, syncfs(s.layout.Layers())
}

// RecordSettled notes that layers have reached the disk: from then on another
// boot believes them too. A layer that was removed meanwhile is passed over.
func (s *Store) RecordSettled(arrived []Meta) error {
	for _, m := range arrived {
		m.BootID = ""
		if err := store.WriteUnsynced(s.metaPath(m.ID), m); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("settle layer %s: %w", m.ID, err)
		}
	}
	return nil
}

// ValidID tells whether id may name a layer: 2 to 128 letters, digits, dots,
// dashes and underscores, the first a letter or digit. Every id passes here
// before it becomes part of a path.
func ValidID(id string) bool {
	if len(id) < 2 || len(id) > 128 || !alnum(id[0]) {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !alnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// syncfs writes everything of dir's filesystem to the disk: one call instead
// of one fsync for each of a layer's files.
func syncfs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
})
