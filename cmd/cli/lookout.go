package cli

import (
	"context"
	"errors"

	"github.com/davit-run/davit/reconcile/watch"
)

// A lookout is a watcher beside an attached up.
type lookout struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// lookOut begins to watch the files of the services that up is attached to.
// The watcher has a session of its own: it changes the project as any other
// command does, and up hears of that.
func (a *attachment) lookOut(ctx context.Context) {
	inner, cancel := context.WithCancel(ctx)
	l := &lookout{cancel: cancel, done: make(chan struct{})}
	a.lookout = l
	go func() {
		defer close(l.done)
		err := a.watchFiles(inner)
		if err != nil && inner.Err() == nil {
			a.say("davit: watch: %v", err)
		}
	}()
}

func (a *attachment) watchFiles(ctx context.Context) error {
	s, err := a.globals.need(ctx, a.services, nil)
	if err != nil {
		return err
	}
	defer s.close()
	w := &watching{session: s, o: watchOptions{quiet: a.o.quietBuild, prune: true}, services: a.services}
	err = w.run(ctx)
	if errors.Is(err, watch.ErrNone) {
		return errors.New("no service has a develop.watch section")
	}
	return err
}

// endLookout ends the watcher, and says whether there was one.
func (a *attachment) endLookout() bool {
	if a.lookout == nil {
		return false
	}
	a.lookout.cancel()
	<-a.lookout.done
	a.lookout = nil
	return true
}

// detach leaves the containers running; what is watched is watched on, by a
// process of its own.
func (a *attachment) detach(ctx context.Context) {
	if !a.applied || a.stopping {
		return
	}
	watched := a.endLookout()
	a.leave()
	a.say("Detached: the containers run on")
	if watched {
		if err := a.watchBehind(ctx, a.services); err != nil {
			a.say("davit: %v", err)
		}
	}
}
