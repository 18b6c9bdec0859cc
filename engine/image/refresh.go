package image

import (
	"errors"
	"fmt"
	"time"

	"github.com/davit-run/davit/engine/store"
)

// NamedAt tells when a name was last set, or found unchanged at its registry
// (Confirm): how old the answer to "which image is this" is.
func (s *Store) NamedAt(ref string) (time.Time, error) {
	name, err := Normalise(ref)
	if err != nil {
		return time.Time{}, err
	}
	var n nameRecord
	if err := store.Read(s.namePath(name), &n); err != nil {
		return time.Time{}, notFound(ref, err)
	}
	return n.Set, nil
}

// Confirm notes that a name was found unchanged just now. A name that is not
// there is left so.
func (s *Store) Confirm(ref string) error {
	name, err := Normalise(ref)
	if err != nil {
		return err
	}
	l, err := s.lock()
	if err != nil {
		return err
	}
	defer l.Release()
	var n nameRecord
	err = store.Read(s.namePath(name), &n)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return notFound(ref, err)
	}
	n.Set = time.Now().UTC()
	if err := store.WriteUnsynced(s.namePath(name), n); err != nil {
		return fmt.Errorf("confirm image name %s: %w", ref, err)
	}
	return nil
}
