package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/apply"
)

// An attachment is up with its containers' output on the terminal. One
// goroutine owns it; plans and waits only send it news.
type attachment struct {
	*session
	o        upOptions
	services []string
	wanted   map[string]reconcile.Container // by name: what up brings up
	shown    map[string]bool                // by name: whose output is printed
	stream   *stream
	sources  map[string]*source // by container id, while followed
	waiting  map[string]string  // id -> name of those whose end is waited for
	news     chan news
	applied  bool // the plan has been carried out
	stopping bool // whatever ends now ends because it was told to
	stops    int  // of everything: 0 not begun, 1 under way, 2 done
	status   int
	decided  bool // status is final
	failure  error
	lookout  *lookout // nil: files are not watched
	prompt   *prompt  // nil: nothing is being asked
	keyed    bool     // keys are heard
}

// news is something that happened: a plan's event or its end, a container's
// end or start.
type news struct {
	event   *apply.Event
	applied bool
	stopped bool
	err     error
	id      string
	state   *engine.State
	started *engine.Event
	taken   chan<- struct{} // closed when it was acted on; nil: nobody waits for that
}

// upAttached applies the plan with the containers' output on the terminal, and
// stays until they have ended or it is told to stop them.
func (s *session) upAttached(ctx context.Context, o upOptions, services []string, steps []reconcile.Step) error {
	a := &attachment{
		session: s, o: o, services: services, wanted: map[string]reconcile.Container{}, shown: map[string]bool{},
		stream:  s.newStream(look{noColor: o.noColor, noPrefix: o.noPrefix, timestamps: o.timestamps}),
		sources: map[string]*source{}, waiting: map[string]string{}, news: make(chan news, 64),
	}
	a.choose()
	a.stream.hold() // until the plan's progress is out of the way
	printed := make(chan error, 1)
	go func() { printed <- a.stream.copy(context.WithoutCancel(ctx)) }()
	err := a.run(ctx, steps)
	for _, src := range a.sources {
		src.finish("")
	}
	a.stream.mux.Finish()
	if perr := <-printed; err == nil {
		err = perr
	}
	return err
}

func (a *attachment) choose() {
	for _, c := range reconcile.Wanted(a.desired, reconcile.Options{Services: a.services, NoDeps: a.o.noDeps}) {
		a.wanted[c.Name] = c
		a.shown[c.Name] = a.attachable(a.o, a.services, c)
		if a.shown[c.Name] {
			a.stream.name(a.label(c.Name))
		}
	}
}

// run is the life of an attachment, from the plan to the last container's end.
func (a *attachment) run(ctx context.Context, steps []reconcile.Step) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	typed, restore := a.keys(a.o.menu)
	defer restore()
	defer a.dismiss()
	a.keyed = typed != nil
	go a.watch(inner)
	go a.carryOut(ctx, steps)
	defer a.endLookout()
	done := ctx.Done()
	for !a.applied || len(a.waiting) > 0 || a.stops == 1 {
		select {
		case n := <-a.news:
			if n.applied && ctx.Err() != nil { // the plan heard of it first
				a.interrupt(inner, ctx.Err())
			}
			a.take(inner, n)
			if n.taken != nil {
				close(n.taken)
			}
		case key := <-typed:
			a.typed(inner, key)
		case <-done:
			done = nil
			a.interrupt(inner, ctx.Err())
		}
		if a.stopping && a.applied && a.stops == 0 {
			a.stops = 1
			go a.stopAll(inner)
		}
		if a.applied && len(a.waiting) == 0 && !a.stopping {
			if err := a.others(inner); err != nil {
				return err
			}
		}
	}
	switch {
	case a.failure != nil:
		return a.failure
	case a.status != 0:
		return exit{code: a.status}
	}
	return nil
}

// interrupt has everything stopped because a person asked for the end.
func (a *attachment) interrupt(ctx context.Context, cause error) {
	if a.failure != nil {
		return
	}
	a.dismiss()
	a.say("Gracefully Stopping... press Ctrl+C again to force")
	a.failure = cause
	a.stop(ctx)
}

// watch sends news of containers that others start.
func (a *attachment) watch(ctx context.Context) {
	for ctx.Err() == nil {
		_ = a.engine.Watch(ctx, a.session.name, nil, func(e engine.Event) error {
			if e.Action == "start" {
				a.send(ctx, news{started: &e})
			}
			return ctx.Err()
		})
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // the keeper is being replaced
		}
	}
}

func (a *attachment) send(ctx context.Context, n news) {
	select {
	case a.news <- n:
	case <-ctx.Done():
	}
}

// take acts on one piece of news.
func (a *attachment) take(ctx context.Context, n news) {
	switch {
	case n.applied:
		a.applied = true
		if n.err != nil && a.failure == nil {
			a.failure = n.err
			a.leave()
		} else if a.o.watch && !a.stopping {
			a.lookOut(ctx)
		}
	case n.stopped:
		a.stops = 2
	case n.event != nil:
		a.progressed(ctx, *n.event)
	case n.state != nil:
		a.ended(ctx, n.id, *n.state)
	case n.started != nil:
		if c, ok := a.wanted[n.started.Name]; ok && a.applied && !a.stopping {
			a.follow(ctx, n.started.ID, c.Name, journal.ReadOptions{Tail: -1, Follow: true})
		}
	}
}

// leave stops waiting: after a plan failed, what runs goes on running.
func (a *attachment) leave() {
	a.stopping, a.stops = true, 2
	clear(a.waiting)
}

// progressed follows a container's output from just before it starts, and
// waits for its end once it runs.
func (a *attachment) progressed(ctx context.Context, e apply.Event) {
	if _, ok := a.wanted[e.Name]; !ok || e.Kind != "Container" || e.ID == "" || a.stopping {
		return
	}
	switch e.Word {
	case "Starting":
		a.source(e.ID, e.Name, journal.ReadOptions{Tail: 0, Follow: true})
	case "Started":
		a.follow(ctx, e.ID, e.Name, journal.ReadOptions{Tail: 0, Follow: true})
	}
}

func (a *attachment) source(id, name string, o journal.ReadOptions) {
	if a.sources[id] != nil || !a.shown[name] {
		return
	}
	src, err := a.stream.add(id, name, o)
	if err != nil {
		a.say("davit: warning: follow the output of %s: %v", name, err)
		return
	}
	a.sources[id] = src
}

func (a *attachment) follow(ctx context.Context, id, name string, o journal.ReadOptions) {
	a.source(id, name, o)
	if _, ok := a.waiting[id]; ok {
		return
	}
	a.waiting[id] = name
	go func() {
		st, err := a.engine.Wait(ctx, a.session.name, id)
		if err != nil {
			st, _ = a.engine.State(ctx, a.session.name, id)
		}
		a.send(ctx, news{id: id, state: &st})
	}()
}

// ended takes in that a container has ended for good, and what that means for
// the others.
func (a *attachment) ended(ctx context.Context, id string, st engine.State) {
	name, ok := a.waiting[id]
	if !ok {
		return
	}
	delete(a.waiting, id)
	if src := a.sources[id]; src != nil {
		src.say(exitWord(st))
	}
	service := a.wanted[name].Service
	if a.o.exitCodeFrom == service {
		a.decide(st.ExitCode)
	}
	if a.stopping || !a.o.abortOnExit && (!a.o.abortOnFailure || st.ExitCode == 0) {
		return
	}
	if a.o.exitCodeFrom == "" {
		a.decide(st.ExitCode)
	}
	a.say("Aborting on container exit...")
	a.stop(ctx)
}

func (a *attachment) decide(status int) {
	if !a.decided {
		a.status, a.decided = status, true
	}
}

// stop has the containers ended in order, as soon as the plan is through; the
// next Ctrl-C kills them.
func (a *attachment) stop(ctx context.Context) {
	if a.stopping {
		return
	}
	a.stopping = true
	a.endLookout()
	force := make(chan os.Signal, 1)
	signal.Notify(force, os.Interrupt, syscall.SIGTERM)
	a.onSecond.Store(true)
	go func() {
		select {
		case <-force:
			a.say("Killing...")
			a.kill(ctx)
		case <-ctx.Done():
		}
	}()
}

func (a *attachment) stopAll(ctx context.Context) {
	actual, err := a.look(ctx)
	if err == nil {
		o := reconcile.Options{Services: a.wantedServices(), Timeout: seconds(a.o.timeout, a.o.timeoutSet)}
		steps := reconcile.Stop(a.desired, actual, o)
		err = apply.Steps(ctx, a.host, steps, apply.Options{Project: a.session.name, Parallel: a.parallel, Report: a.tell})
	}
	if err != nil && ctx.Err() == nil {
		a.say("davit: %v", err)
	}
	a.send(ctx, news{stopped: true})
}

// tell prints a stop's progress below the containers' last lines.
func (a *attachment) tell(e apply.Event) {
	if e.Err != nil {
		a.say(" %s %s %s %v", e.Kind, e.Name, e.Word, e.Err)
		return
	}
	a.say(" %s %s %s", e.Kind, e.Name, e.Word)
}

func (a *attachment) kill(ctx context.Context) {
	actual, err := a.look(ctx)
	if err != nil {
		return
	}
	o := reconcile.Options{Services: a.wantedServices()}
	_ = apply.Steps(ctx, a.host, reconcile.Kill(a.desired, actual, o, "SIGKILL"), apply.Options{Project: a.session.name})
}

// look observes the containers without touching what the plan goes by.
func (a *attachment) look(ctx context.Context) (reconcile.Actual, error) {
	all, err := a.engine.Containers(ctx, a.session.name)
	var actual reconcile.Actual
	for _, c := range all {
		actual.Containers = append(actual.Containers, reconcile.ActualContainer{Container: c.Container, State: c.State})
	}
	return actual, err
}

func (a *attachment) wantedServices() []string {
	var out []string
	for _, c := range a.wanted {
		out = append(out, c.Service)
	}
	return out
}

// others looks, when everything has ended, whether another davit is bringing
// some of it up again: then up goes on with those.
func (a *attachment) others(ctx context.Context) error {
	if err := a.lock(ctx); err != nil {
		return fmt.Errorf("wait for other commands: %w", err)
	}
	a.release()
	actual, err := a.look(ctx)
	if err != nil {
		return err
	}
	for _, c := range actual.Containers {
		if _, ok := a.wanted[c.Name]; ok && c.Alive() {
			a.follow(ctx, c.ID, c.Name, journal.ReadOptions{Tail: -1, Follow: true})
		}
	}
	return nil
}
