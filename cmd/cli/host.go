package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/volume"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/apply"
)

// A host is this host's engine as a plan sees it.
type host struct {
	*local.Engine
	session *session
	build   buildOptions
	built   built           // by this command
	display *build.Display  // of the builds under way; nil: nobody looks
	show    render.Progress // of the plan under way; nil: nobody looks
	quiet   bool            // pulls tell no details
	// newVolumes makes volumes even where Docker holds one of the name.
	newVolumes bool
	// first brings files to a container before it is started; nil: there are none.
	first func(ctx context.Context, project, id string) error
}

var _ apply.Engine = (*host)(nil)

// CreateContainer puts the contents of its secrets and configs in their place
// and writes the container's record.
func (h *host) CreateContainer(ctx context.Context, name string, do reconcile.CreateContainer) (string, error) {
	if err := h.keepFiles(do.Spec.Files); err != nil {
		return "", err
	}
	return h.Engine.CreateContainer(ctx, local.Draft{
		Name: do.Name, Project: name, Spec: do.Spec, Replaces: do.Replaces,
		Volumes: do.Inherit, Renew: do.Renew, AutoRemove: do.AutoRemove,
	})
}

// StartContainer starts a container, once it has the files it begins with.
func (h *host) StartContainer(ctx context.Context, project, id string) error {
	if h.first != nil {
		if err := h.first(ctx, project, id); err != nil {
			return err
		}
	}
	return h.Engine.StartContainer(ctx, project, id)
}

func (h *host) keepFiles(files []engine.FileMount) error {
	dir := h.Layout().Secrets()
	for _, f := range files {
		content, ok := h.session.desired.Contents[f.Key]
		if !ok {
			if err := h.external(f.Key, f.Kind, f.Name); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := store.WriteFile(filepath.Join(dir, f.Key), content, 0o600); err != nil {
			return fmt.Errorf("keep %s %s: %w", f.Kind, f.Name, err)
		}
	}
	return nil
}

// RemoveNetwork leaves a network alone that something still is on.
func (h *host) RemoveNetwork(ctx context.Context, project, name string) error {
	err := h.Engine.RemoveNetwork(ctx, project, name)
	var f *wire.Failure
	if errors.As(err, &f) && f.Code == "conflict" {
		return fmt.Errorf("%w: %w", apply.ErrInUse, err)
	}
	return err
}

// RemoveVolume leaves a volume alone that a container still has.
func (h *host) RemoveVolume(ctx context.Context, name string) error {
	err := h.Engine.RemoveVolume(ctx, name)
	if errors.Is(err, volume.ErrInUse) {
		return fmt.Errorf("%w: %w", apply.ErrInUse, err)
	}
	return err
}
