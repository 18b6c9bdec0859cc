package cli

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"
)

// A logFollower has the containers of a project come, go and come again under
// logs -f.
type logFollower struct {
	*session
	stream   *stream
	services []string
	index    int // of the one replica that is followed; 0: all

	mu      sync.Mutex
	sources map[string]*source // by container id
	waited  map[string]bool    // whose end is waited for
}

func newLogFollower(s *session, st *stream, services []string, index int) *logFollower {
	return &logFollower{
		session: s, stream: st, services: services, index: index,
		sources: map[string]*source{}, waited: map[string]bool{},
	}
}

// takes says whether a container is one of those that are followed.
func (f *logFollower) takes(a reconcile.ActualContainer) bool {
	return !a.OneOff() && (len(f.services) == 0 || slices.Contains(f.services, a.Service())) && (f.index == 0 || a.Number() == f.index)
}

// errGoing means that a container is being taken away by another command.
var errGoing = errors.New("the container is being removed")

// add prints a container's output; a follower goes on with it through its
// restarts, until it is removed.
func (f *logFollower) add(ctx context.Context, a reconcile.ActualContainer, o journal.ReadOptions) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sources[a.ID] == nil {
		src, err := f.stream.add(a.ID, a.Name, o)
		if errors.Is(err, fs.ErrNotExist) {
			return errGoing
		}
		if err != nil {
			return err
		}
		f.sources[a.ID] = src
		// A log is handed on, or removed, after its container is marked: one that is
		// not marked yet has been opened where it is.
		if st, err := f.engine.State(ctx, f.session.name, a.ID); err != nil || st.Status == engine.Removing {
			return errGoing
		}
	}
	if o.Follow && a.Alive() && !f.waited[a.ID] {
		f.waited[a.ID] = true
		go f.tellEnd(ctx, a.ID)
	}
	return nil
}

// tellEnd says how a container ended, once no policy starts it again.
func (f *logFollower) tellEnd(ctx context.Context, id string) {
	st, err := f.engine.Wait(ctx, f.session.name, id)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waited[id] = false
	if src := f.sources[id]; src != nil && err == nil {
		src.say(exitWord(st))
	}
}

// run follows what happens in the project, and ends the stream once nothing
// runs any more and nobody is bringing anything up.
func (f *logFollower) run(ctx context.Context) {
	defer f.stream.mux.Finish()
	for ctx.Err() == nil && !f.look(ctx) {
		err := f.engine.Watch(ctx, f.session.name, func() { f.alive(ctx) }, func(e engine.Event) error {
			switch e.Action {
			case "destroy":
				f.drop(e.ID)
			case "start", "die":
			default:
				return nil
			}
			if f.look(ctx) {
				return context.Canceled
			}
			return nil
		})
		if err != nil && !errors.Is(err, wire.ErrLost) {
			time.Sleep(100 * time.Millisecond) // the keeper is being replaced
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, src := range f.sources {
		src.finish("")
	}
}

func (f *logFollower) drop(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if src := f.sources[id]; src != nil {
		src.finish("")
		delete(f.sources, id)
	}
}

// look adds what runs by now, and tells whether all is over: nothing is alive,
// and no other command is at work that may start something.
func (f *logFollower) look(ctx context.Context) (over bool) {
	if f.alive(ctx) {
		return false
	}
	if f.lock(ctx) != nil {
		return ctx.Err() != nil
	}
	f.release()
	return !f.alive(ctx)
}

// alive tells whether any of the containers is, and adds those that are new: also
// the ones that have ended by now, since events may be heard of late.
func (f *logFollower) alive(ctx context.Context) bool {
	all, err := f.engine.Containers(ctx, f.session.name)
	if err != nil {
		return true // what cannot be read just now may be there the next time
	}
	alive := false
	for _, c := range all {
		a := reconcile.ActualContainer{Container: c.Container, State: c.State}
		if !f.takes(a) || c.State.Status == engine.Removing || c.State.Status == engine.Created {
			continue
		}
		alive = alive || a.Alive()
		_ = f.add(ctx, a, journal.ReadOptions{Tail: -1, Follow: true})
	}
	return alive
}
