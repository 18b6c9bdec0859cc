package keeper

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/netdns"
)

// patience is how long those who connect to a published TCP port wait while its
// container is replaced or started again: from the end of the one until the
// next listens.
const patience = 30 * time.Second

// A suspender is what a Network must also be able to do for clients to wait.
type suspender interface {
	// Suspend has those wait who connect to TCP ports from now on.
	Suspend(ctx context.Context, ps []netdns.Publication, ports []*os.File) error
	// Forget ends what the kernel remembers of connections to containers that
	// had the ports and have ended.
	Forget(ctx context.Context, ps []netdns.Publication) error
	// Doors looks at who listens in a namespace.
	Doors(ns *os.File) (netdns.Doors, error)
	// Lead lets them go to the containers that publish the ports now.
	Lead(ctx context.Context, ps []netdns.Publication) error
}

func (k *Keeper) suspender() suspender {
	host, err := k.network()
	if err != nil {
		return nil
	}
	s, _ := host.(suspender)
	return s
}

// A queue is published ports between two containers, with the clients that wait
// there. It lies in memory alone: if the keeper is killed, they are sent away.
type queue struct {
	pubs  []netdns.Publication
	ports []*os.File
	until time.Time
	over  *time.Timer
	gone  chan struct{} // closed when nothing remembers who had the ports before
}

// suspend has the clients of the container wait from here on for the one that
// comes after it: the one that takes its place, or itself.
func (c *container) suspend(next string) {
	if len(netdns.TCP(c.place.Publications)) == 0 || c.shared() {
		return
	}
	if next == "" || next != c.id && c.k.living(next) { // that one has its ports
		return
	}
	s := c.k.suspender()
	if s == nil {
		return
	}
	if err := s.Suspend(c.k.ctx, c.place.Publications, c.place.ports); err != nil {
		c.k.log("container %s: %v", c.name(), err)
		return
	}
	c.successor = next
	c.letIn(s)
}

// succession is the container for which a stop makes room; empty where none comes.
func (c *container) succession(req wire.Request) string {
	if req.Again {
		return c.id
	}
	if !req.Forget {
		return ""
	}
	return c.k.o.Layout.Heir(c.k.o.Project, c.id)
}

// living tells whether a container runs, or waits to.
func (k *Keeper) living(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.containers[id]
	return c != nil && c.lives.Load()
}

// manners is how long a container may take to begin with the requests that have
// reached it, before it is asked to end.
const manners = time.Second

// letIn waits until the container has taken in whoever stands at its door, and
// has had a moment to hear them.
func (c *container) letIn(s suspender) {
	d, err := s.Doors(c.place.ns)
	if err != nil {
		return
	}
	defer d.Close()
	for begin := time.Now(); time.Since(begin) < manners; {
		at, err := d.Look()
		busy := slices.ContainsFunc(c.place.Publications, func(p netdns.Publication) bool { return at[p.ContainerPort] > 0 })
		time.Sleep(time.Millisecond)
		if err != nil || !busy {
			return
		}
	}
}

// passOn keeps the suspended ports of a container that gives up its place for
// the one that comes after it.
func (c *container) passOn() {
	if c.successor == "" || c.successor != c.id && c.k.living(c.successor) {
		return
	}
	q := &queue{pubs: netdns.TCP(c.place.Publications), until: time.Now().Add(patience), gone: make(chan struct{})}
	isTCP := func(p netdns.Publication) bool { return p.Protocol == "tcp" }
	c.place.Publications = slices.DeleteFunc(slices.Clone(c.place.Publications), isTCP)
	var rest []*os.File
	for _, f := range c.place.ports {
		if _, protocol := reserved(f); protocol == "tcp" {
			q.ports = append(q.ports, f)
		} else {
			rest = append(rest, f)
		}
	}
	c.place.ports = rest
	s, name := c.k.suspender(), c.name()
	go func() { // beside the next one's start: it is a walk through all connections of the host
		defer close(q.gone)
		if err := s.Forget(c.k.ctx, q.pubs); err != nil && c.k.ctx.Err() == nil {
			c.k.log("container %s: %v", name, err)
		}
	}()
	c.k.enqueue(c.successor, q)
	c.successor = ""
}

func (k *Keeper) enqueue(id string, q *queue) {
	q.over = time.AfterFunc(patience, func() { k.sendAway(id, q) })
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.queues == nil {
		k.queues = make(map[string]*queue)
	}
	k.queues[id] = q
}

// dequeue takes the queue that waits for a container; nil where there is none.
func (k *Keeper) dequeue(id string) *queue {
	k.mu.Lock()
	defer k.mu.Unlock()
	q := k.queues[id]
	if q != nil {
		q.over.Stop()
		delete(k.queues, id)
	}
	return q
}

// sendAway ends what is left of a queue: its clients meet a closed port.
func (k *Keeper) sendAway(id string, which *queue) {
	k.mu.Lock()
	q := k.queues[id]
	if q == nil || which != nil && q != which {
		k.mu.Unlock()
		return
	}
	delete(k.queues, id)
	k.mu.Unlock()
	q.over.Stop()
	if host, err := k.network(); err == nil {
		if err := host.Unpublish(k.ctx, q.pubs); err != nil {
			k.log("%v", err)
		}
	}
	closeFiles(q.ports)
	k.touch()
}

// sendAllAway ends every queue: nobody comes any more.
func (k *Keeper) sendAllAway() {
	k.mu.Lock()
	var all []string
	for id := range k.queues {
		all = append(all, id)
	}
	k.mu.Unlock()
	for _, id := range all {
		k.sendAway(id, nil)
	}
}

// queued says whether anybody waits for a container that is not there yet.
func (k *Keeper) queued() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.queues) > 0
}

// lead lets the clients that wait go to the container as soon as it listens,
// port by port; at the end of their patience in any case.
func (c *container) lead() {
	s := c.k.suspender()
	if s == nil || c.place.came == nil {
		return
	}
	d, err := s.Doors(c.place.ns)
	if err != nil {
		c.k.log("container %s: %v", c.name(), err)
	}
	go c.greet(c.live, s, d, *c.place.came, netdns.TCP(c.place.Publications))
}

// greet leads each port as it begins to be listened on during a run; where that
// cannot be seen, at once.
func (c *container) greet(run *live, s suspender, d netdns.Doors, q queue, left []netdns.Publication) {
	if d != nil {
		defer d.Close()
	}
	<-q.gone
	for wait := time.Millisecond; len(left) > 0; wait = min(2*wait, 4*time.Millisecond) {
		blind, at := d == nil || !time.Now().Before(q.until), map[uint16]int{}
		if !blind {
			var err error
			at, err = d.Look()
			blind = err != nil
		}
		var ready, still []netdns.Publication
		for _, p := range left {
			if _, listens := at[p.ContainerPort]; listens || blind {
				ready = append(ready, p)
			} else {
				still = append(still, p)
			}
		}
		if left = still; len(ready) > 0 {
			c.bring(func() { c.arrived(run, s, ready) })
		}
		select {
		case <-run.pumping.Done():
			return
		case <-time.After(wait):
		}
	}
}

// arrived leads ports to the run of the container that listens on them, unless
// that is about to end again.
func (c *container) arrived(run *live, s suspender, ready []netdns.Publication) {
	if c.live != run || c.successor != "" {
		return
	}
	if err := s.Lead(c.k.ctx, ready); err != nil {
		c.k.log("container %s: %v", c.name(), err)
	}
}
