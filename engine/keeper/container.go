package keeper

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/logs"
)

// A call is a client's request to one container.
type call struct {
	req   wire.Request
	reply chan<- answer // buffered: whoever answers never waits
}

// An answer is what a call comes to. The files are the caller's.
type answer struct {
	state   *engine.State
	warning string
	names   []string
	stats   *engine.Stats
	files   []*os.File
	err     error
}

// A container is one container's life. Its goroutine owns everything below the
// line; others send it calls.
type container struct {
	k       *Keeper
	id      string
	rec     *engine.Container
	damaged error // why its record could not be read; it can only be removed

	calls    chan call
	later    chan func()   // what goroutines begun for it bring back
	done     chan struct{} // closed when the container is no more
	lives    atomic.Bool   // running, or waiting to
	snapshot atomic.Pointer[engine.State]

	// ----
	state  engine.State
	streak Streak
	live   *live // the present process; nil: none
	place  place // where it is on the network
	// successor is the container that those wait for who ask for its ports now:
	// the one that takes its place, or itself; empty: nobody waits.
	successor string
	exit      chan anchor.Exit

	again, grace, check timer
	unused              timer // of a standby
	stopping            bool
	killed              bool // SIGKILL to all was sent
	forget              bool // its exit need not outlive a power cut
	health              *Plan
	ailing              bool               // it is ended because it is unhealthy
	probing             context.CancelFunc // ends the probe under way
	stops, waits        []chan<- answer
	holds               int                // callers who want to see it after its end
	ignores, deaf       bool               // the stop signal has no handler; and so it was killed
	sending             context.CancelFunc // ends the sender of its log
	removes             []call
	ready               *standby // its process waits for the word; nil: there is none
	gone                bool
}

// A timer that may be unset; its channel is nil then.
type timer struct {
	t *time.Timer
	c <-chan time.Time
}

func (t *timer) set(d time.Duration) {
	t.stop()
	t.t = time.NewTimer(d)
	t.c = t.t.C
}

func (t *timer) stop() {
	if t.t != nil {
		t.t.Stop()
	}
	t.t, t.c = nil, nil
}

// adopt makes the container of a record known; the caller holds k.mu and
// starts its goroutine.
func (k *Keeper) adopt(rec *engine.Container, damaged error) *container {
	c := &container{k: k, id: rec.ID, rec: rec, damaged: damaged,
		calls: make(chan call), later: make(chan func()), done: make(chan struct{}),
		exit: make(chan anchor.Exit, 1)}
	state, err := k.o.Layout.LoadState(k.o.Project, rec.ID)
	if err != nil {
		k.log("container %s: %v", rec.Name, err)
		state = &engine.State{Status: engine.Exited, Error: err.Error()}
	}
	c.state = *state
	c.publish()
	k.containers[rec.ID] = c
	return c
}

func (c *container) name() string { return c.rec.Name }

// publish shows the present state to everybody else.
func (c *container) publish() {
	s := c.state
	c.snapshot.Store(&s)
	c.lives.Store(c.live != nil || s.Status == engine.Restarting)
	c.k.touch()
}

// save records the state, then shows it.
func (c *container) save(durable bool) error {
	err := c.k.o.Layout.SaveState(c.k.o.Project, c.id, &c.state, durable)
	if err != nil {
		c.k.log("container %s: record its state: %v", c.name(), err)
	}
	c.publish()
	return err
}

// run is the container's goroutine.
func (c *container) run() {
	for !c.gone {
		select {
		case <-c.k.ctx.Done():
			return
		case call := <-c.calls:
			c.handle(call)
		case f := <-c.later:
			f()
		case e := <-c.exit:
			c.ended(e)
		case <-c.again.c:
			c.again.stop()
			c.restart()
		case <-c.grace.c:
			c.grace.stop()
			c.graceOver()
		case <-c.unused.c:
			c.standDown()
		case <-c.check.c:
			c.check.stop()
			c.probe()
		}
	}
	close(c.done)
	c.k.touch()
}

// bring hands f to the container's goroutine.
func (c *container) bring(f func()) {
	select {
	case c.later <- f:
	case <-c.done:
	case <-c.k.ctx.Done():
	}
}

// ask puts a request to the container and waits for the answer. What the
// request began goes on when the caller leaves.
func (c *container) ask(ctx context.Context, req wire.Request) (answer, error) {
	reply := make(chan answer, 1)
	select {
	case c.calls <- call{req, reply}:
	case <-c.done:
		return c.over(req)
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	select {
	case a := <-reply:
		return a, a.err
	case <-c.done:
		select {
		case a := <-reply:
			return a, a.err
		default:
			return c.over(req)
		}
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// over answers for a container that was removed meanwhile.
func (c *container) over(req wire.Request) (answer, error) {
	switch req.Op {
	case wire.OpRemove:
		return answer{}, nil
	case wire.OpWait, wire.OpStop:
		return answer{state: c.snapshot.Load()}, nil
	}
	return answer{}, refuse("not-found", "container %s was removed", c.name())
}

func (c *container) handle(l call) {
	if c.damaged != nil && l.req.Op != wire.OpRemove {
		l.reply <- answer{err: c.damaged}
		return
	}
	if slices.Contains([]string{wire.OpStop, wire.OpRemove, wire.OpReload, wire.OpRest}, l.req.Op) {
		c.standDown()
	}
	switch l.req.Op {
	case wire.OpStart:
		c.startCall(l)
	case wire.OpStop:
		c.stopCall(l)
	case wire.OpKill:
		l.reply <- c.answer("", c.kill(l.req.Signal, l.req.Reason))
	case wire.OpPause:
		l.reply <- c.answer("", c.pause())
	case wire.OpUnpause:
		l.reply <- c.answer("", c.unpause())
	case wire.OpRemove:
		c.removeCall(l)
	case wire.OpAttach:
		l.reply <- c.attach(l.req.Once)
	case wire.OpWait:
		c.waitCall(l)
	case wire.OpStats:
		l.reply <- c.stats()
	case wire.OpRest:
		l.reply <- c.answer("", nil)
	case wire.OpReload:
		l.reply <- c.answer("", c.reload())
	default:
		l.reply <- answer{err: refuse("refused", "unknown request %q", l.req.Op)}
	}
}

func (c *container) answer(warning string, err error) answer {
	return answer{state: c.snapshot.Load(), warning: warning, err: err}
}

func (c *container) waitCall(l call) {
	if l.req.Hold {
		c.holds++
	}
	begins := l.req.Hold && c.state.Status == engine.Created
	if !begins && c.live == nil && c.state.Status != engine.Restarting {
		l.reply <- c.answer("", nil)
		return
	}
	c.waits = append(c.waits, l.reply)
}

// settle answers everybody who waits for the container to have ended.
func (c *container) settle(err error) {
	for _, w := range c.stops {
		w <- c.answer(c.ignorance(), err)
	}
	c.stops = nil
	if c.live != nil || c.state.Status == engine.Restarting {
		return
	}
	for _, w := range c.waits {
		w <- c.answer("", err)
	}
	c.waits = nil
}

// event tells watchers what happened, with attributes as pairs.
func (c *container) event(action, reason string, pairs ...string) {
	attributes := map[string]string{}
	for k, v := range c.rec.Spec.Labels {
		attributes[k] = v
	}
	attributes["image"], attributes["name"] = c.rec.Spec.Image, c.name()
	if reason != "" {
		attributes["reason"] = reason
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		attributes[pairs[i]] = pairs[i+1]
	}
	c.k.events.tell(engine.Event{Type: "container", Action: action, ID: c.id, Name: c.name(), Attributes: attributes})
}

// attach gives out a container's input: the master of its terminal, or its
// stdin. Once makes the caller the only writer, so that its closing is the end
// of input.
func (c *container) attach(once bool) answer {
	if c.live == nil {
		return answer{err: refuse("conflict", "container %s is not running", c.name())}
	}
	name, f := "stdin", c.live.stdin
	if c.live.console != nil {
		name, f = "console", c.live.console
	}
	if f == nil {
		return c.answer("", nil)
	}
	dup, err := duplicate(f)
	if err != nil {
		return answer{err: err}
	}
	if once && name == "stdin" {
		c.live.stdin.Close()
		c.live.stdin = nil
		err = c.k.o.Keep.Drop(c.kept("stdin"))
	}
	return answer{state: c.snapshot.Load(), names: []string{name}, files: []*os.File{dup}, err: err}
}

// kept is the name of one of the container's descriptors in the fd store.
func (c *container) kept(what string) string { return "c/" + c.id + "/" + what }

// notice puts a word of davit's into the container's log.
func (c *container) notice(text string) {
	if c.live != nil && c.live.journal != nil {
		if err := c.live.journal.Notice(text); err != nil && !errors.Is(err, os.ErrClosed) {
			c.k.log("container %s: %v", c.name(), err)
		}
	}
}

// Streams of a container's output.
var streams = []logs.Stream{logs.Stdout, logs.Stderr}
