package store

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/davit-run/davit/engine"
)

// SaveContainer writes a container's record before anything is made for it.
func (l Layout) SaveContainer(c *engine.Container) error {
	dir := l.Container(c.Project, c.ID)
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return err
	}
	return Write(filepath.Join(dir, "container.json"), c)
}

// LoadContainer reads a container's record.
func (l Layout) LoadContainer(project, id string) (*engine.Container, error) {
	c := new(engine.Container)
	if err := Read(filepath.Join(l.Container(project, id), "container.json"), c); err != nil {
		return nil, err
	}
	return c, nil
}

// SaveState writes a container's state; durable when it must outlive a power
// cut.
func (l Layout) SaveState(project, id string, s *engine.State, durable bool) error {
	path := filepath.Join(l.Container(project, id), "state.json")
	if durable {
		return Write(path, s)
	}
	return WriteUnsynced(path, s)
}

// LoadState reads a container's state as last recorded; a container that never
// ran is created, and so is one of whose state a power cut has left nothing.
func (l Layout) LoadState(project, id string) (*engine.State, error) {
	s := new(engine.State)
	err := Read(filepath.Join(l.Container(project, id), "state.json"), s)
	if errors.Is(err, ErrNotFound) || blank(err) {
		return &engine.State{Status: engine.Created}, nil
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// SaveHeir notes which container takes the place of another, before that one is
// recorded: it is the one that inherits the log. Syncing its record, which
// comes next, commits this one too where the file system has a journal.
func (l Layout) SaveHeir(project, id, heir string) error {
	dir := l.Container(project, id)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil // it is gone: there is nothing to inherit
	}
	return WriteUnsynced(filepath.Join(dir, "heir.json"), heir)
}

// Heir is the container that takes the place of another, provided that it is
// there; empty where there is none.
func (l Layout) Heir(project, id string) string {
	var heir string
	if Read(filepath.Join(l.Container(project, id), "heir.json"), &heir) != nil || filepath.Base(heir) != heir || heir == id {
		return ""
	}
	if _, err := l.LoadContainer(project, heir); err != nil {
		return ""
	}
	return heir
}
