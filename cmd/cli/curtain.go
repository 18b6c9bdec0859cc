package cli

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/apply"
)

// A curtain is the progress of a plan in front of its containers' output: on a
// terminal one line for each object, redrawn until all have been made and those
// that could start have started. Then it rises, and the output, held back till
// then, follows below. What takes longer ends as a line of its own.
type curtain struct {
	show   render.Progress
	drawn  bool   // on a terminal, and so in the way of the output
	rise   func() // called once
	tell   func(apply.Event)
	mu     sync.Mutex
	unmade int             // containers that the plan has yet to make
	unrun  int             // and to start
	waits  bool            // one of them waits for another's health or end
	busy   map[string]bool // objects being worked on
	begun  bool            // a container is starting
	left   map[string]bool // those that still were when the curtain rose
	seen   map[string]bool // objects that have had a line
	up     bool
}

// patience is how long the output of the first container waits for the others'
// progress.
const patience = time.Second

func (a *attachment) newCurtain(steps []reconcile.Step) (*curtain, error) {
	show, err := a.progressFor("up")
	if err != nil {
		return nil, err
	}
	c := &curtain{show: show, drawn: render.Draws(a.progress, a.globals.status), tell: a.tell, busy: map[string]bool{}, seen: map[string]bool{}}
	c.rise = func() {
		fmt.Fprintf(a.globals.out, "Attaching to %s\n", strings.Join(a.names(), ", "))
		if a.keyed {
			a.say("Press h for help on keys")
		}
		a.stream.release()
	}
	for _, step := range steps {
		switch step.Do.(type) {
		case reconcile.CreateContainer:
			c.unmade++
		case reconcile.StartContainer:
			c.unrun++
		}
	}
	return c, nil
}

// report shows one event of the plan.
func (c *curtain) report(e apply.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	starting := e.Word == "Starting"
	if starting && !c.begun {
		c.begun = true
		if c.drawn {
			time.AfterFunc(patience, c.raise)
		}
	}
	key := e.Kind + " " + e.Name
	switch {
	case !c.drawn:
		if starting {
			c.lift()
		}
		c.show.Report(e)
		return
	case c.up:
		if e.Err != nil || e.Done && (c.left[key] || !c.seen[key]) {
			delete(c.left, key)
			c.seen[key] = true
			c.tell(e)
		}
	default:
		c.seen[key] = true
		c.show.Report(e)
	}
	c.note(e)
	if c.begun && c.unmade <= 0 && len(c.busy) == 0 && (c.unrun <= 0 || c.waits) {
		c.lift()
	}
}

func (c *curtain) note(e apply.Event) {
	key := e.Kind + " " + e.Name
	if e.Done || e.Word == "Waiting" { // for as long as another's health takes
		delete(c.busy, key)
	} else {
		c.busy[key] = true
	}
	if e.Kind != "Container" {
		return
	}
	switch e.Word {
	case "Created", "Recreated":
		c.unmade--
	case "Started":
		c.unrun--
	case "Waiting":
		c.waits = true
	}
}

// raise lets the output be seen.
func (c *curtain) raise() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lift()
}

func (c *curtain) lift() {
	if c.up {
		return
	}
	c.up, c.left = true, maps.Clone(c.busy)
	if c.drawn {
		c.show.Close()
	}
	c.rise()
}

// end comes when the plan is through.
func (c *curtain) end() {
	c.raise()
	if !c.drawn {
		c.show.Close()
	}
}

// carryOut runs the plan behind the curtain of its progress.
func (a *attachment) carryOut(ctx context.Context, steps []reconcile.Step) {
	front, err := a.newCurtain(steps)
	if err != nil {
		a.stream.release()
		a.news <- news{applied: true, err: err}
		return
	}
	unchanged := reconcile.Unchanged(a.desired, a.actual, ready(a.o.plan(a.services)))
	for _, c := range unchanged {
		front.show.Report(running(c.Name))
	}
	if len(steps) == 0 {
		front.raise()
	}
	for _, c := range unchanged {
		e := event(c.Name, "Started", true, nil)
		e.ID = c.ID
		a.news <- news{event: &e}
	}
	err = a.session.run(ctx, steps, func(e apply.Event) {
		front.report(e)
		a.pass(e)
	})
	front.end()
	a.release()
	a.news <- news{applied: true, err: err}
}

// pass hands an event of the plan on. A container is started only when its
// output is being followed: what it says at once would be passed over.
func (a *attachment) pass(e apply.Event) {
	if e.Word != "Starting" {
		a.news <- news{event: &e}
		return
	}
	taken := make(chan struct{})
	a.news <- news{event: &e, taken: taken}
	<-taken
}

// names are those of the containers whose output is shown.
func (a *attachment) names() []string {
	var out []string
	for _, c := range a.desired.Containers {
		if a.shown[c.Name] {
			out = append(out, a.label(c.Name))
		}
	}
	return out
}
