package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/layer"
)

// A Commit is a new image: an old one with one more layer.
type Commit struct {
	Base    engine.Image       // what the layer lies on; its Config is replaced by the one below
	Config  engine.ImageConfig // what is run
	Changes []string           // Dockerfile instructions over that, as for Import
	Name    string             // empty: only its id names it
	Author  string
	Message string
	Command string // what ran, for the history
}

// Commit makes an image of a base and of a directory of what was changed on
// it: an overlay's upper, which stays as it is. Paths that skip tells, nil for
// none, are left out.
func (s *Store) Commit(ctx context.Context, c Commit, upper string, skip func(string) bool) (engine.Image, error) {
	img, err := s.commit(ctx, c, upper, skip)
	if err != nil {
		return img, fmt.Errorf("commit image: %w", err)
	}
	return img, nil
}

func (s *Store) commit(ctx context.Context, c Commit, upper string, skip func(string) bool) (engine.Image, error) {
	if err := Change(&c.Config, c.Changes); err != nil {
		return engine.Image{}, err
	}
	hold, err := s.layers.Hold(ctx)
	if err != nil {
		return engine.Image{}, err
	}
	defer hold.Release()
	r, w := io.Pipe()
	go func() { w.CloseWithError(layer.TarDir(ctx, upper, w, layer.TarOptions{Skip: skip})) }()
	st, err := s.layers.Stage(ctx, r)
	r.CloseWithError(io.ErrClosedPipe)
	if err != nil {
		return engine.Image{}, err
	}
	if err := s.layers.Publish(st); err != nil {
		return engine.Image{}, err
	}
	img := c.image(st.ID)
	if img.Size, err = s.layers.Sum(img.Layers); err != nil {
		return img, err
	}
	config, err := json.Marshal(configuration{
		Created: img.Created, Author: img.Author, Architecture: img.Arch, OS: img.OS, Variant: img.Variant,
		Config: img.Config, RootFS: rootFS{Type: "layers", DiffIDs: nonNil(img.DiffIDs)}, History: img.History,
	})
	if err != nil {
		return img, err
	}
	var names []string
	if c.Name != "" {
		names = []string{c.Name}
	}
	return s.Put(img, config, nil, names...)
}

// image is the new image's record; top is its uppermost layer.
func (c Commit) image(top string) engine.Image {
	now := time.Now().UTC()
	img := engine.Image{
		Created: now, OS: c.Base.OS, Arch: c.Base.Arch, Variant: c.Base.Variant, Author: c.Author, Config: c.Config,
		Layers: append(slices.Clone(c.Base.Layers), top), ParentID: c.Base.ID,
	}
	// The layers of an image that was built here have no known digests yet.
	if len(c.Base.DiffIDs) == len(c.Base.Layers) {
		img.DiffIDs = append(slices.Clone(c.Base.DiffIDs), "sha256:"+top)
	}
	img.History = append(slices.Clone(c.Base.History), engine.History{
		Created: now, CreatedBy: c.Command, Author: c.Author, Comment: c.Message,
	})
	return img
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
