package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// Put records an image whose layers are in the layer store, and gives it
// names. config is the configuration as it shall be kept; manifest may be nil.
// An empty img.ID becomes the digest of config, together with the layers when
// the configuration does not name them by their diff ids (an image that was
// just built: its archive is not known before it is saved or pushed).
//
// The caller holds the content (layer.Store.Hold) from before it looked for
// the layers. Where an image of this ID exists, it only gets the names.
func (s *Store) Put(img engine.Image, config, manifest []byte, names ...string) (engine.Image, error) {
	if img.ID == "" {
		img.ID = identify(img, config)
	}
	if !isDigest(img.ID) {
		return img, fmt.Errorf("record image %q: not an image id", img.ID)
	}
	full, err := normaliseAll(names)
	if err != nil {
		return img, fmt.Errorf("record image: %w", err)
	}
	for _, l := range img.Layers {
		if _, err := s.layers.Meta(l); err != nil {
			return img, fmt.Errorf("record image %s: %w", img.ID, err)
		}
	}
	lock, err := s.lock()
	if err != nil {
		return img, err
	}
	defer lock.Release()
	img.Names = nil
	if err := s.putRecord(record{Image: img, Config: config, Manifest: manifest}); err != nil {
		return img, err
	}
	for _, n := range full {
		if err := s.setName(n, img.ID); err != nil {
			return img, err
		}
	}
	img.Names = full
	return img, nil
}

// putRecord writes an image's record unless the same one is there; a digest
// or manifest that was not known is added.
func (s *Store) putRecord(rec record) error {
	old, err := s.read(rec.Image.ID)
	if err == nil && slices.Equal(old.Image.Layers, rec.Image.Layers) {
		if rec.Image.Digest == "" || rec.Image.Digest == old.Image.Digest {
			return nil
		}
	}
	if err := store.Write(s.recordPath(rec.Image.ID), rec); err != nil {
		return fmt.Errorf("record image %s: %w", rec.Image.ID, err)
	}
	return nil
}

func (s *Store) setName(name, id string) error {
	var old nameRecord
	if err := store.Read(s.namePath(name), &old); err == nil && old.ID == id {
		return nil
	}
	if err := store.Write(s.namePath(name), nameRecord{name, id, time.Now().UTC()}); err != nil {
		return fmt.Errorf("name image %s: %w", name, err)
	}
	return nil
}

func normaliseAll(names []string) ([]string, error) {
	var full []string
	for _, n := range names {
		f, err := Normalise(n)
		if err != nil {
			return nil, err
		}
		full = append(full, f)
	}
	return full, nil
}

// Tag gives the image that ref means one more name, taking the name away
// from the image that had it.
func (s *Store) Tag(ref, name string) error {
	full, err := Normalise(name)
	if err != nil {
		return err
	}
	if strings.Contains(full, "@") {
		return fmt.Errorf("tag image %s: a digest cannot be given away as a name", name)
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Release()
	id, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.setName(full, id)
}

// ErrInUse means that something still refers to an image.
var ErrInUse = errors.New("in use")

// Removed is what Remove took away.
type Removed struct {
	Untagged []string // full names
	Deleted  string   // the image's id, when no name was left
}

// Remove takes the name ref away, and with the last name the image's record;
// its layers are the collector's. ref as an id removes all names, several of
// them only with force. inUse, unless nil, tells who uses an image; such an
// image loses names but is not deleted (with force, neither).
func (s *Store) Remove(ref string, force bool, inUse func(id string) string) (Removed, error) {
	var r Removed
	lock, err := s.lock()
	if err != nil {
		return r, err
	}
	defer lock.Release()
	id, err := s.find(ref)
	if err != nil {
		return r, err
	}
	all, err := s.names()
	if err != nil {
		return r, err
	}
	names, byName := all[id], ""
	if full, err := Normalise(ref); err == nil && slices.Contains(names, full) {
		byName = full
	}
	if byName == "" && len(names) > 1 && !force {
		return r, fmt.Errorf("remove image %s: it has several names (%s): remove them one by one, or use --force", ref, strings.Join(names, ", "))
	}
	if byName == "" || len(names) <= 1 {
		if who := user(inUse, id); who != "" {
			return r, fmt.Errorf("remove image %s: %w by %s", ref, ErrInUse, who)
		}
	}
	return r, s.remove(&r, id, names, byName)
}

func user(inUse func(string) string, id string) string {
	if inUse == nil {
		return ""
	}
	return inUse(id)
}

// remove deletes names first: an image without a name is a dangling one, a
// name without an image would be a lie.
func (s *Store) remove(r *Removed, id string, names []string, only string) error {
	left := 0
	for _, n := range names {
		if only != "" && n != only {
			left++
			continue
		}
		if err := store.Remove(s.namePath(n)); err != nil {
			return fmt.Errorf("remove image name %s: %w", n, err)
		}
		r.Untagged = append(r.Untagged, n)
	}
	if left > 0 {
		return nil
	}
	if err := store.Remove(s.recordPath(id)); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	r.Deleted = id
	return nil
}

// Kept adds the layers that images refer to: what the collector must keep on
// their account.
func (s *Store) Kept(into map[string]bool) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	for _, img := range all {
		for _, l := range img.Layers {
			into[l] = true
		}
	}
	return nil
}
