package local

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/volume"
)

// An Engine runs containers on this host. Its methods may be called from
// several goroutines, and several processes may have one on the same root.
type Engine struct {
	layout  store.Layout
	images  *image.Store
	volumes *volume.Store

	keepers  keepers
	settling settling
	warn     func(container, what string)
}

// ErrNotRoot means that the caller may not do what an engine does.
var ErrNotRoot = errors.New("davit needs root to make namespaces, bridges and mounts")

// Open returns the engine whose data lies in layout. Nothing is made on disk
// until something is asked for.
func Open(layout store.Layout) *Engine {
	return &Engine{layout: layout, images: image.Open(layout), volumes: volume.Open(layout)}
}

// Close gives up what the engine holds open.
func (e *Engine) Close() error { return errors.Join(e.settleLater(), e.keepers.close()) }

// OnWarning has f told what the host could not give to a container, or what
// its owner should know; it may be called from several goroutines.
func (e *Engine) OnWarning(f func(container, what string)) { e.warn = f }

// warned passes a reply's warning on.
func (e *Engine) warned(r wire.Reply, _ []*os.File) error {
	if r.Warning != "" && e.warn != nil {
		e.warn(r.Name, r.Warning)
	}
	return nil
}

// Layout tells where the engine's files lie.
func (e *Engine) Layout() store.Layout { return e.layout }

// ImageStore is the engine's images, for the commands about images.
func (e *Engine) ImageStore() *image.Store { return e.images }

// VolumeStore is the engine's volumes, for the commands about volumes.
func (e *Engine) VolumeStore() *volume.Store { return e.volumes }

// LockProject keeps other commands from changing the project until unlock is
// called, waiting for them first.
func (e *Engine) LockProject(ctx context.Context, project string) (unlock func(), err error) {
	l, err := store.Acquire(ctx, e.layout.ProjectLock(project))
	if err != nil {
		return nil, fmt.Errorf("project %s is being changed by another davit: %w", project, err)
	}
	if err = e.settle(ctx, project); err == nil {
		err = e.sweepBegun(ctx, project)
	}
	if err != nil {
		l.ReleaseRemove()
		return nil, err
	}
	return l.ReleaseRemove, nil
}

// settle waits for what a killed command left under way with the project's
// keeper, and has a keeper of another build hand over to this one's. A project
// without a keeper has nothing under way; one whose keeper and anchor died
// together is given another, which takes over what runs.
func (e *Engine) settle(ctx context.Context, project string) error {
	c, err := wire.Dial(ctx, e.layout, project)
	if err == nil {
		err = c.Settle(ctx)
		c.Close()
	}
	if errors.Is(err, wire.ErrNoKeeper) && e.orphaned(project) {
		if c, err = e.keepers.ensure(ctx, e.layout, project); err == nil {
			err = c.Settle(ctx)
		}
	}
	switch {
	case err == nil, errors.Is(err, wire.ErrNoKeeper):
		return nil
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("project %s: what another command began does not end; see %s", project, e.layout.KeeperLog(project))
	}
	return err
}

// orphaned tells a project of which a container was left running, or waiting to
// run again, when the last one to look after it died in this boot.
func (e *Engine) orphaned(project string) bool {
	ids, err := store.Names(e.layout.Containers(project))
	if err != nil {
		return false
	}
	boot := bootID()
	for _, id := range ids {
		s, err := e.layout.LoadState(project, id)
		if err == nil && s.BootID == boot && (s.Status == engine.Running || s.Status == engine.Paused || s.Status == engine.Restarting) {
			return true
		}
	}
	return false
}

// CheckRoot tells, before anything is half-made, that the caller lacks the
// rights to run containers.
func CheckRoot() error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	return nil
}

// call sends one request to the project's keeper, starting one if need be.
func (e *Engine) call(ctx context.Context, project string, req wire.Request, each func(wire.Reply, []*os.File) error) error {
	c, err := e.keepers.ensure(ctx, e.layout, project)
	if err != nil {
		return err
	}
	return c.Call(ctx, req, each)
}

// StartContainer starts a container's process and returns once it runs.
func (e *Engine) StartContainer(ctx context.Context, project, id string) error {
	return e.call(ctx, project, wire.Request{Op: wire.OpStart, ID: id}, e.warned)
}

// StopContainer ends a container's process: the signal, the grace period, then
// SIGKILL.
func (e *Engine) StopContainer(ctx context.Context, project, id string, s engine.Stop) error {
	return e.call(ctx, project, wire.Request{Op: wire.OpStop, ID: id, Signal: s.Signal, Timeout: s.Timeout, Forget: s.Removal, Again: s.Restart}, e.warned)
}

// KillContainer sends a signal to a container's first process.
func (e *Engine) KillContainer(ctx context.Context, project, id, signal string) error {
	return e.call(ctx, project, wire.Request{Op: wire.OpKill, ID: id, Signal: signal}, nil)
}

// PauseContainer freezes a container's processes.
func (e *Engine) PauseContainer(ctx context.Context, project, id string) error {
	return e.call(ctx, project, wire.Request{Op: wire.OpPause, ID: id}, nil)
}

// UnpauseContainer lets a frozen container go on.
func (e *Engine) UnpauseContainer(ctx context.Context, project, id string) error {
	return e.call(ctx, project, wire.Request{Op: wire.OpUnpause, ID: id}, nil)
}

// RemoveContainer takes a container away whole, stopping it first if need be;
// volumes says whether its anonymous volumes go too.
func (e *Engine) RemoveContainer(ctx context.Context, project, id string, volumes bool) error {
	return e.call(ctx, project, wire.Request{Op: wire.OpRemove, ID: id, Volumes: volumes}, nil)
}

// Wait returns the state of a container once its process has ended for good:
// no policy starts it again.
func (e *Engine) Wait(ctx context.Context, project, id string) (engine.State, error) {
	var last engine.State
	err := e.call(ctx, project, wire.Request{Op: wire.OpWait, ID: id}, func(r wire.Reply, _ []*os.File) error {
		if r.State != nil {
			last = *r.State
		}
		return nil
	})
	return last, err
}

// Hold waits for the end of a container that is started after ready was
// called, and so misses nothing however short its life is. ended is told of the
// end while the container is still there, although it removes itself.
func (e *Engine) Hold(ctx context.Context, project, id string, ready func(), ended func(engine.State) error) error {
	err := e.call(ctx, project, wire.Request{Op: wire.OpWait, ID: id, Hold: true}, func(r wire.Reply, _ []*os.File) error {
		if r.State == nil {
			ready()
			return nil
		}
		if err := ended(*r.State); err != nil {
			return err
		}
		return errOver
	})
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// errOver ends a call whose caller has seen all it wants.
var errOver = errors.New("nothing more is wanted")

// Stats tells what the living containers of a project use, by id; none when it
// has no keeper.
func (e *Engine) Stats(ctx context.Context, project string) (map[string]engine.Stats, error) {
	all := make(map[string]engine.Stats)
	c, err := wire.Dial(ctx, e.layout, project)
	if errors.Is(err, wire.ErrNoKeeper) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	err = c.Call(ctx, wire.Request{Op: wire.OpStats}, func(r wire.Reply, _ []*os.File) error {
		if r.Stats != nil {
			all[r.ID] = *r.Stats
		}
		return nil
	})
	if errors.Is(err, wire.ErrNoKeeper) {
		err = nil
	}
	return all, err
}

// Watch calls each for everything that happens in a project from now on, until
// ctx ends or each returns an error. ready, when not nil, is called once no
// later event can be missed. No keeper is started for it, since one that down has
// ended would come back: without one the error is wire.ErrNoKeeper.
func (e *Engine) Watch(ctx context.Context, project string, ready func(), each func(engine.Event) error) error {
	c, err := wire.Dial(ctx, e.layout, project)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, wire.Request{Op: wire.OpWatch}, func(r wire.Reply, _ []*os.File) error {
		if r.Event == nil {
			if ready != nil && !r.Done {
				ready()
			}
			return nil
		}
		return each(*r.Event)
	})
}

// Attach returns the writing end of a container's standard input, or the
// master of its terminal, which the caller closes.
func (e *Engine) Attach(ctx context.Context, project, id string) (input *os.File, tty bool, err error) {
	err = e.call(ctx, project, wire.Request{Op: wire.OpAttach, ID: id}, func(r wire.Reply, fds []*os.File) error {
		for i, name := range r.FDs {
			if input != nil || i >= len(fds) {
				continue
			}
			input, tty = fds[i], name == "console"
		}
		return nil
	})
	return input, tty, err
}

// Shutdown ends a project's keeper once nothing is kept, and returns when its
// processes are gone. A project without one is none the worse.
func (e *Engine) Shutdown(ctx context.Context, project string) error {
	c, err := wire.Dial(ctx, e.layout, project)
	if errors.Is(err, wire.ErrNoKeeper) {
		return e.forget(ctx, project)
	}
	if err != nil {
		return err
	}
	if err := c.Call(ctx, wire.Request{Op: wire.OpShutdown, Sweep: true}, nil); err != nil && !errors.Is(err, wire.ErrNoKeeper) {
		return err
	}
	return e.forget(ctx, project)
}

// forget waits until keeper and anchor are gone, and removes the project's
// folders when no container is left in them.
func (e *Engine) forget(ctx context.Context, project string) error {
	// The anchor first: while it lives, another keeper may come.
	for _, path := range []string{e.layout.AnchorLock(project), e.layout.KeeperLock(project)} {
		lock, err := store.Acquire(ctx, path)
		if err != nil {
			return fmt.Errorf("keeper of project %s does not end: %w", project, err)
		}
		defer lock.Release()
	}
	anchor.Sweep(e.layout, project)
	left, err := store.Names(e.layout.Containers(project))
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return nil
	}
	if _, err := e.forgetFiles(project, false); err != nil {
		return err
	}
	if err := os.RemoveAll(e.layout.RunProject(project)); err != nil {
		return err
	}
	return os.RemoveAll(e.layout.Project(project))
}
