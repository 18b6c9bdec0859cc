package image

import (
	"fmt"
	"path/filepath"

	"github.com/davit-run/davit/engine/store"
)

// A Damage is a record of an image or of a name that cannot be believed.
type Damage struct {
	ID   string // the image's, as its place tells
	Path string // of the record
	Err  error
}

// Check reads every image's record and holds its configuration against its id.
func (s *Store) Check() ([]Damage, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var all []Damage
	for _, hex := range ids {
		id := "sha256:" + hex
		if err := s.check(id); err != nil {
			all = append(all, Damage{id, s.recordPath(id), err})
		}
	}
	return all, nil
}

func (s *Store) check(id string) error {
	rec, err := s.read(id)
	if err != nil {
		return err
	}
	parsed, err := Parse(rec.Config)
	if err != nil {
		return fmt.Errorf("image %s: %w", id, err)
	}
	// The id of one that was built here is of its layers too.
	if rec.Image.ID != id || len(rec.Image.DiffIDs) > 0 && parsed.ID != id {
		return fmt.Errorf("image %s: its configuration has the digest %s", id, parsed.ID)
	}
	return nil
}

// CheckNames reads every name and looks whether there is such an image.
func (s *Store) CheckNames() []Damage {
	dir := filepath.Join(s.layout.Images(), "names")
	files, err := store.Names(dir)
	if err != nil {
		return []Damage{{Path: dir, Err: fmt.Errorf("list image names: %w", err)}}
	}
	var all []Damage
	for _, f := range files {
		path := filepath.Join(dir, f)
		var n nameRecord
		err := store.Read(path, &n)
		if err == nil {
			if _, err = s.read(n.ID); err != nil {
				err = fmt.Errorf("image name %s: %w", n.Name, err)
			}
		}
		if err != nil {
			all = append(all, Damage{n.ID, path, err})
		}
	}
	return all
}

// Forget takes an image's record away, whatever it holds.
func (s *Store) Forget(id string) error {
	if !isDigest(id) {
		return fmt.Errorf("image %q: not an image id", id)
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Release()
	return store.Remove(s.recordPath(id))
}
