package apply

import (
	"context"
	"fmt"
	"sync"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

// names knows the container behind a name: the one there was, then the one
// that a step made.
type names struct {
	mu  *sync.Mutex
	ids map[string]string
}

func newNames(ids map[string]string) names {
	n := names{new(sync.Mutex), make(map[string]string, len(ids))}
	for name, id := range ids {
		n.ids[name] = id
	}
	return n
}

func (n names) id(name string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id := n.ids[name]; id != "" {
		return id, nil
	}
	return "", fmt.Errorf("there is no container %s", name)
}

func (n names) set(name, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ids[name] = id
}

// do is the type switch of the plan: one case for each action.
func (r *run) do(ctx context.Context, do reconcile.Action) error {
	e, project := r.engine, r.options.Project
	switch do := do.(type) {
	case reconcile.BuildImage:
		return e.BuildImage(ctx, do)
	case reconcile.PullImage:
		return e.PullImage(ctx, do)
	case reconcile.RemoveImage:
		return e.RemoveImage(ctx, do.Ref)
	case reconcile.CreateNetwork:
		return e.CreateNetwork(ctx, do.Network)
	case reconcile.RemoveNetwork:
		return e.RemoveNetwork(ctx, project, do.Name)
	case reconcile.CreateVolume:
		return e.CreateVolume(ctx, do.Volume)
	case reconcile.RemoveVolume:
		return e.RemoveVolume(ctx, do.Name)
	case reconcile.CreateContainer:
		id, err := e.CreateContainer(ctx, project, do)
		if err == nil {
			r.names.set(do.Name, id)
		}
		return err
	case reconcile.UpdateContainer:
		return e.UpdateContainer(ctx, project, do.ID, do.Spec)
	case reconcile.StartContainer:
		id, err := r.names.id(do.Name)
		if err != nil {
			return err
		}
		return e.StartContainer(ctx, project, id)
	case reconcile.StopContainer:
		return e.StopContainer(ctx, project, do.ID, engine.Stop{Timeout: do.Timeout, Removal: do.Removal, Restart: do.Restart})
	case reconcile.KillContainer:
		return e.KillContainer(ctx, project, do.ID, do.Signal)
	case reconcile.PauseContainer:
		return e.PauseContainer(ctx, project, do.ID)
	case reconcile.UnpauseContainer:
		return e.UnpauseContainer(ctx, project, do.ID)
	case reconcile.RemoveContainer:
		id := do.ID
		if id == "" {
			var err error
			if id, err = r.names.id(do.Name); err != nil {
				return err
			}
		}
		return e.RemoveContainer(ctx, project, id, do.Volumes)
	case reconcile.Await:
		return r.await(ctx, do)
	}
	return fmt.Errorf("no engine verb for %T", do)
}

func (r *run) await(ctx context.Context, do reconcile.Await) error {
	var all []Target
	for _, name := range do.Names {
		id, err := r.names.id(name)
		if err != nil {
			return err
		}
		all = append(all, Target{Name: name, ID: id, Service: do.Service})
	}
	return Wait(ctx, r.engine, r.options.Project, all, do.Condition, nil)
}
