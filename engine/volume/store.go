package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

var (
	// ErrNotFound means that there is no volume of that name.
	ErrNotFound = errors.New("no such volume")
	// ErrInUse means that a container still refers to a volume.
	ErrInUse = errors.New("in use")
)

// A Store is the volumes of one data directory: a folder for each, with its
// record, and with its content in _data, which is never touched but by Remove
// and the first CopyUp.
type Store struct{ layout store.Layout }

// Open returns the volumes of a layout.
func Open(l store.Layout) *Store { return &Store{layout: l} }

// ValidName tells whether name may name a volume: two or more (at most 255)
// letters, digits, dots, dashes and underscores, the first a letter or digit.
func ValidName(name string) bool {
	if len(name) < 2 || len(name) > 255 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		word := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !word && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return true
}

// AnonymousName makes a name for a volume that nobody named: 64 hex digits.
func AnonymousName() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (s *Store) meta(name string) string { return filepath.Join(s.layout.Volume(name), "meta.json") }

func check(name string) error {
	if ValidName(name) {
		return nil
	}
	return fmt.Errorf("volume %.300q: not a volume name: use letters, digits, dots, dashes and underscores, at least two", name)
}

// Create makes a volume, or returns the one that has the name; whether that
// is defined alike is the caller's to compare (Differs). The record is there
// before the directory, so a volume that was begun is always known.
func (s *Store) Create(ctx context.Context, v engine.Volume) (engine.Volume, error) {
	if err := check(v.Name); err != nil {
		return v, err
	}
	if v.Driver == "" {
		v.Driver = "local"
	}
	if err := checkDriver(v); err != nil {
		return v, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	lock, err := store.Acquire(ctx, s.lock(v.Name))
	if err != nil {
		return v, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	defer lock.Release()
	old, err := s.Get(v.Name)
	if err == nil {
		return old, s.makeData(v.Name) // it may have been begun only
	}
	if !errors.Is(err, ErrNotFound) {
		return v, err
	}
	if v.Created.IsZero() {
		v.Created = time.Now().UTC()
	}
	if err := os.MkdirAll(s.layout.Volume(v.Name), 0o710); err != nil {
		return v, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	if err := store.Write(s.meta(v.Name), v); err != nil {
		return v, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	if err := store.SyncDir(s.layout.Volumes()); err != nil {
		return v, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	return v, s.makeData(v.Name)
}

func (s *Store) makeData(name string) error {
	data := s.layout.VolumeData(name)
	err := os.Mkdir(data, 0o755)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(data, 0o755) // whatever the umask
	}
	if err != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	return nil
}

func (s *Store) lock(name string) string { return s.layout.Lock("volume-" + name) }

// Get returns a volume's record.
func (s *Store) Get(name string) (engine.Volume, error) {
	var v engine.Volume
	if err := check(name); err != nil {
		return v, err
	}
	err := store.Read(s.meta(name), &v)
	if errors.Is(err, store.ErrNotFound) {
		return v, fmt.Errorf("volume %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return v, fmt.Errorf("volume %s: %w", name, err)
	}
	return v, nil
}

// List returns all volumes by name. A record that is damaged is an error
// beside the volumes that are not.
func (s *Store) List() ([]engine.Volume, error) {
	names, err := store.Names(s.layout.Volumes())
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	slices.Sort(names)
	var all []engine.Volume
	var damaged []error
	for _, n := range names {
		if !ValidName(n) {
			continue
		}
		v, err := s.Get(n)
		switch {
		case err == nil:
			all = append(all, v)
		case !errors.Is(err, ErrNotFound):
			damaged = append(damaged, err)
		}
	}
	return all, errors.Join(damaged...)
}

// Remove deletes a volume and its content; one that is not there is
// ErrNotFound. inUse tells, under the volume's lock, who refers to it (empty:
// nobody): such a volume is ErrInUse. The record goes last, so a removal that
// was interrupted goes on with the next Remove.
func (s *Store) Remove(ctx context.Context, name string, inUse func(name string) string) error {
	if err := check(name); err != nil {
		return err
	}
	lock, err := store.Acquire(ctx, s.lock(name))
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	defer lock.ReleaseRemove()
	if _, err := os.Lstat(s.layout.Volume(name)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove volume %s: %w", name, ErrNotFound)
	}
	if inUse != nil {
		if who := inUse(name); who != "" {
			return fmt.Errorf("remove volume %s: %w by %s", name, ErrInUse, who)
		}
	}
	if err := s.refuseMounted(name); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	if err := os.RemoveAll(s.layout.VolumeData(name)); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	if err := os.RemoveAll(s.layout.Volume(name)); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return store.SyncDir(s.layout.Volumes())
}

// Differs names the fields in which a wanted definition differs from a
// volume's, or none. Labels do not matter to the content.
func Differs(have, want engine.Volume) []string {
	if want.Driver == "" {
		want.Driver = "local"
	}
	var fields []string
	if have.Driver != want.Driver {
		fields = append(fields, "driver")
	}
	if !maps.Equal(have.Options, want.Options) {
		fields = append(fields, "driver_opts")
	}
	return fields
}
