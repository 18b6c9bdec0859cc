package apply

import (
	"context"
	"errors"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

// ErrInUse is what RemoveNetwork and RemoveVolume wrap when something outside
// the plan still has the thing: it stays, and the plan goes on.
var ErrInUse = errors.New("resource is still in use")

// Engine is what a plan needs from the host: one method for each action. Every
// removal is idempotent: what is gone already is no error. A method returns
// when its effect is there, and may be called from several goroutines.
type Engine interface {
	CreateNetwork(ctx context.Context, n engine.Network) error
	RemoveNetwork(ctx context.Context, project, name string) error
	CreateVolume(ctx context.Context, v engine.Volume) error
	RemoveVolume(ctx context.Context, name string) error
	PullImage(ctx context.Context, do reconcile.PullImage) error
	BuildImage(ctx context.Context, do reconcile.BuildImage) error
	RemoveImage(ctx context.Context, ref string) error

	// CreateContainer writes the record, and resolves service:NAME in the
	// definition to the container that there is by then.
	CreateContainer(ctx context.Context, project string, do reconcile.CreateContainer) (id string, err error)
	// UpdateContainer changes networks, names, ports and name servers of a
	// container that runs.
	UpdateContainer(ctx context.Context, project, id string, spec engine.Spec) error
	StartContainer(ctx context.Context, project, id string) error
	StopContainer(ctx context.Context, project, id string, s engine.Stop) error
	KillContainer(ctx context.Context, project, id, signal string) error
	PauseContainer(ctx context.Context, project, id string) error
	UnpauseContainer(ctx context.Context, project, id string) error
	RemoveContainer(ctx context.Context, project, id string, volumes bool) error
	Watcher
}

// Watcher is what waiting for containers needs from the host.
type Watcher interface {
	State(ctx context.Context, project, id string) (engine.State, error)
	// Watch calls each for everything that happens in the project, until ctx
	// ends; ready once no later event can be missed.
	Watch(ctx context.Context, project string, ready func(), each func(engine.Event) error) error
}
