package local

import (
	"context"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/registry"
)

// A carrier reaches the build caches of other hosts: in registries, and as OCI
// layouts in directories.
type carrier struct {
	e *Engine
	o RegistryOptions
}

// Open implements build.Carrier. The client lives as long as the command: its
// layers are fetched when a step asks for them.
func (x carrier) Open(ctx context.Context, c build.Cache) ([]byte, func(context.Context, []string) error, error) {
	client, err := x.e.Registry(x.o)
	if err != nil {
		return nil, nil, err
	}
	var from *registry.Outside
	if c.Kind == build.CacheLocal {
		from, err = client.OpenDir(ctx, c.Dir, c.Tag)
	} else {
		from, err = client.Open(ctx, c.Ref)
	}
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return from.Config, from.Bring, nil
}

// Save implements build.Carrier.
func (x carrier) Save(ctx context.Context, c build.Cache, stacks [][]string, describe func([][]string) ([]byte, error)) error {
	pack, err := x.pack(ctx, stacks, describe)
	if err != nil {
		return err
	}
	client, err := x.e.Registry(x.o)
	if err != nil {
		return err
	}
	defer client.Close()
	if c.Kind == build.CacheLocal {
		return client.WriteDir(ctx, c.Dir, c.Tag, pack)
	}
	return client.PushPackage(ctx, c.Ref, pack)
}

// pack makes a package of every layer of the stacks, each once, in the order
// in which it comes first.
func (x carrier) pack(ctx context.Context, stacks [][]string, describe func([][]string) ([]byte, error)) (*image.Package, error) {
	var blobs []image.Blob
	diffIDs, seen := make([][]string, len(stacks)), map[string]bool{}
	for i, layers := range stacks {
		list, err := x.e.images.Blobs(ctx, layers)
		if err != nil {
			return nil, err
		}
		for _, b := range list {
			diffIDs[i] = append(diffIDs[i], b.DiffID)
			if !seen[b.DiffID] {
				seen[b.DiffID] = true
				blobs = append(blobs, b)
			}
		}
	}
	config, err := describe(diffIDs)
	if err != nil {
		return nil, err
	}
	return image.NewPackage(engine.Image{}, config, blobs)
}
