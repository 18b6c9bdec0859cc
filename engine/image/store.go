package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// ErrNotFound means that no image on this host answers to a reference.
var ErrNotFound = errors.New("no such image")

// A Store is the images of one data directory: one small record for each
// image, by the digest of its configuration, and one for each name. Several
// processes may use it at once.
type Store struct {
	layout store.Layout
	layers *layer.Store
}

// Open returns the images of a layout.
func Open(l store.Layout) *Store { return &Store{layout: l, layers: layer.Open(l)} }

// Layers is the layer store that the images stand on.
func (s *Store) Layers() *layer.Store { return s.layers }

// A record is one image on disk. The configuration is kept as the bytes it
// came as: they are what the image's ID is the digest of.
type record struct {
	Image    engine.Image `json:"image"`
	Config   []byte       `json:"config"`
	Manifest []byte       `json:"manifest,omitempty"` // as the registry had it
}

type nameRecord struct {
	Name string    `json:"name"`
	ID   string    `json:"id"`
	Set  time.Time `json:"set"`
}

func (s *Store) recordPath(id string) string {
	return filepath.Join(s.layout.Images(), "ids", strings.TrimPrefix(id, "sha256:"))
}

func (s *Store) namePath(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(s.layout.Images(), "names", hex.EncodeToString(sum[:]))
}

// Resolve finds the image that ref means: a name in any form, name@digest,
// an id, or the beginning of one. ErrNotFound when there is none.
func (s *Store) Resolve(ref string) (engine.Image, error) {
	id, err := s.find(ref)
	if err != nil {
		return engine.Image{}, err
	}
	rec, err := s.read(id)
	if err != nil {
		return engine.Image{}, err
	}
	names, err := s.names()
	if err != nil {
		return engine.Image{}, err
	}
	rec.Image.Names = names[id]
	return rec.Image, nil
}

// Lookup is Resolve by a full, normalised name alone, reading two records: for
// callers in a hurry. Names holds only that name.
func (s *Store) Lookup(name string) (engine.Image, error) {
	var n nameRecord
	if err := store.Read(s.namePath(name), &n); err != nil {
		return engine.Image{}, notFound(name, err)
	}
	rec, err := s.read(n.ID)
	if err != nil {
		return engine.Image{}, err
	}
	rec.Image.Names = []string{n.Name}
	return rec.Image, nil
}

func notFound(ref string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("image %s: %w", ref, ErrNotFound)
	}
	return fmt.Errorf("image %s: %w", ref, err)
}

// Config returns the image's configuration, the bytes whose digest is its ID.
func (s *Store) Config(id string) ([]byte, error) {
	rec, err := s.read(id)
	return rec.Config, err
}

// Manifest returns the manifest the image was pulled with, or nil.
func (s *Store) Manifest(id string) ([]byte, error) {
	rec, err := s.read(id)
	return rec.Manifest, err
}

func (s *Store) read(id string) (record, error) {
	var rec record
	if !isDigest(id) {
		return rec, fmt.Errorf("image %q: not an image id", id)
	}
	if err := store.Read(s.recordPath(id), &rec); err != nil {
		return rec, notFound(id, err)
	}
	return rec, nil
}

// find returns the id that ref means, in Docker's order: a whole id, a name,
// the beginning of an id.
func (s *Store) find(ref string) (string, error) {
	if isDigest(ref) || len(ref) == 64 && isHex(ref) {
		id := "sha256:" + strings.TrimPrefix(ref, "sha256:")
		if _, err := s.read(id); err != nil {
			return "", err
		}
		return id, nil
	}
	name, err := Normalise(ref)
	if err == nil {
		var n nameRecord
		err = store.Read(s.namePath(name), &n)
		if err == nil {
			return n.ID, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return "", notFound(ref, err)
		}
		if id := s.byDigest(name); id != "" {
			return id, nil
		}
	}
	if id, perr := s.byPrefix(strings.TrimPrefix(ref, "sha256:")); id != "" || perr != nil {
		return id, perr
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	return "", fmt.Errorf("image %s: %w", ref, ErrNotFound)
}

// byDigest finds repository@digest among the images of that repository.
func (s *Store) byDigest(name string) string {
	repo, digest, ok := strings.Cut(name, "@")
	if !ok {
		return ""
	}
	all, err := s.List()
	if err != nil {
		return ""
	}
	for _, img := range all {
		if img.Digest != digest && img.ID != digest {
			continue
		}
		for _, n := range img.Names {
			if Repository(n) == repo {
				return img.ID
			}
		}
	}
	return ""
}

func (s *Store) byPrefix(prefix string) (string, error) {
	if !isHex(prefix) || len(prefix) > 64 {
		return "", nil
	}
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	found := ""
	for _, id := range ids {
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("image %s: several images begin with it; give more digits", prefix)
		}
		found = "sha256:" + id
	}
	return found, nil
}

func (s *Store) ids() ([]string, error) {
	ids, err := store.Names(filepath.Join(s.layout.Images(), "ids"))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return len(id) != 64 || !isHex(id) }), nil
}

// names returns the names of every image, sorted, by id.
func (s *Store) names() (map[string][]string, error) {
	dir := filepath.Join(s.layout.Images(), "names")
	files, err := store.Names(dir)
	if err != nil {
		return nil, fmt.Errorf("list image names: %w", err)
	}
	all := make(map[string][]string, len(files))
	for _, f := range files {
		var n nameRecord
		err := store.Read(filepath.Join(dir, f), &n)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list image names: %w", err)
		}
		all[n.ID] = append(all[n.ID], n.Name)
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all, nil
}

// List returns all images, newest first. A record that is damaged is an
// error beside the images that are not.
func (s *Store) List() ([]engine.Image, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var all []engine.Image
	var damaged []error
	for _, hex := range ids {
		rec, err := s.read("sha256:" + hex)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			damaged = append(damaged, err)
			continue
		}
		rec.Image.Names = names[rec.Image.ID]
		if rec.Image.Size == 0 { // built here: nobody has counted yet
			rec.Image.Size, _ = s.layers.Sum(rec.Image.Layers)
		}
		all = append(all, rec.Image)
	}
	slices.SortFunc(all, func(a, b engine.Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, errors.Join(damaged...)
}

// Complete tells whether every layer of an image is on this host.
func (s *Store) Complete(img engine.Image) bool {
	return !slices.ContainsFunc(img.Layers, func(id string) bool { return !s.layers.Has(id) })
}

func (s *Store) lock() (*store.Lock, error) {
	l, err := store.Acquire(context.Background(), s.layout.Lock("images"))
	if err != nil {
		return nil, fmt.Errorf("lock images: %w", err)
	}
	return l, s.makeDirs()
}

func (s *Store) makeDirs() error {
	for _, d := range []string{"ids", "names"} {
		if err := os.MkdirAll(filepath.Join(s.layout.Images(), d), 0o700); err != nil {
			return fmt.Errorf("make image directory: %w", err)
		}
	}
	return nil
}
