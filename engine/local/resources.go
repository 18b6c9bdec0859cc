package local

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/volume"
)

// CreateNetwork writes a network's record and makes its bridge and rules stand.
func (e *Engine) CreateNetwork(ctx context.Context, n engine.Network) error {
	if n.ID == "" {
		n.ID = newID()
	}
	if n.Created.IsZero() {
		n.Created = time.Now().UTC()
	}
	dir := e.layout.Network(n.Name)
	if err := os.MkdirAll(dir, 0o710); err != nil {
		return err
	}
	if err := store.Write(filepath.Join(dir, "network.json"), n); err != nil {
		return err
	}
	return e.call(ctx, cmp.Or(n.Project, byHand), wire.Request{Op: wire.OpNetwork, Network: n.Name}, nil)
}

// RemoveNetwork takes a network away with its bridge, rules, leases and record.
func (e *Engine) RemoveNetwork(ctx context.Context, project, name string) error {
	return e.call(ctx, project, wire.Request{Op: wire.OpNetRemove, Network: name}, nil)
}

// CreateVolume makes an empty volume; one that exists is left alone.
func (e *Engine) CreateVolume(ctx context.Context, v engine.Volume) error {
	_, err := e.volumes.Create(ctx, v)
	return err
}

// RemoveVolume deletes a volume and its content, unless a container of any
// project has it. One that is not there is no error.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	err := e.volumes.Remove(ctx, name, e.volumeUser)
	if errors.Is(err, volume.ErrNotFound) {
		return nil
	}
	return err
}

// volumeUser names a container that has the volume; empty when none does.
func (e *Engine) volumeUser(name string) string {
	user := ""
	_ = e.eachContainer(func(c *engine.Container) bool {
		for _, v := range c.Volumes {
			if v == name {
				user = "container " + c.Name
			}
		}
		return user == ""
	})
	return user
}

// eachContainer calls each for the readable records of all projects, until it
// returns false.
func (e *Engine) eachContainer(each func(*engine.Container) bool) error {
	projects, err := store.Names(e.layout.Projects())
	if err != nil {
		return err
	}
	for _, p := range projects {
		ids, err := store.Names(e.layout.Containers(p))
		if err != nil {
			return err
		}
		for _, id := range ids {
			c, err := e.layout.LoadContainer(p, id)
			if err == nil && !each(c) {
				return nil
			}
		}
	}
	return nil
}

// RemoveImage takes a name away from its image, and the image away with its
// last name, unless a container has it. One that is not there is no error.
func (e *Engine) RemoveImage(_ context.Context, ref string) error {
	_, err := e.images.Remove(ref, false, e.imageUser)
	if errors.Is(err, image.ErrNotFound) {
		return nil
	}
	return err
}

// Untag takes a name away from its image, and the image away with its last
// name unless a container has it. An id names all; several of them go only
// with force.
func (e *Engine) Untag(ref string, force bool) (image.Removed, error) {
	return e.images.Remove(ref, force, e.imageUser)
}

func (e *Engine) imageUser(id string) string {
	user := ""
	_ = e.eachContainer(func(c *engine.Container) bool {
		if c.ImageID == id {
			user = "container " + c.Name
		}
		return user == ""
	})
	return user
}

// VolumeUsers names, for each volume that containers have, those containers.
func (e *Engine) VolumeUsers() map[string][]string {
	users := make(map[string][]string)
	_ = e.eachContainer(func(c *engine.Container) bool {
		for _, v := range c.Volumes {
			users[v] = append(users[v], c.Name)
		}
		return true
	})
	return users
}
