package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
)

// restorePlace takes over the container's place on the network.
func (c *container) restorePlace() {
	if err := store.Read(c.placePath(), &c.place.placeRecord); err != nil && !errors.Is(err, store.ErrNotFound) {
		c.k.log("container %s: %v", c.name(), err)
		c.place.placeRecord = placeRecord{}
	}
	c.place.ns = c.k.takeKept(c.kept("netns"))
	c.place.udp, c.place.tcp = c.k.takeKept(c.kept("dnsu")), c.k.takeKept(c.kept("dnst"))
	for i := 0; ; i++ {
		f := c.k.takeKept(c.kept("port/" + strconv.Itoa(i)))
		if f == nil {
			break
		}
		c.place.ports = append(c.place.ports, f)
	}
	if len(c.place.Endpoints) == 0 {
		return
	}
	if c.place.ns == nil && c.state.PID > 0 && c.state.BootID == bootID() {
		c.findNamespace()
	}
	if c.place.ns != nil {
		if err := c.resolve(c.k.ctx); err != nil {
			c.k.log("%v", err)
		}
	}
	c.resumePorts()
}

// findNamespace opens the namespace of a process that runs on.
func (c *container) findNamespace() {
	if ticks, err := anchor.StartTicks(c.state.PID); err != nil || ticks != c.state.StartTicks {
		return
	}
	if ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", c.state.PID)); err == nil {
		c.place.ns = ns
		_ = c.k.o.Keep.Put(c.kept("netns"), ns)
	}
}

// resumePorts has the kernel's side of the published ports stand, and what a
// keeper does for them itself.
func (c *container) resumePorts() {
	if len(c.place.Publications) == 0 {
		return
	}
	host, err := c.k.network()
	if err != nil {
		c.k.log("container %s: %v", c.name(), err)
		return
	}
	r, ok := host.(interface {
		Resume(context.Context, []netdns.Publication, []*os.File) error
	})
	if !ok {
		return
	}
	if err := r.Resume(c.k.ctx, c.place.Publications, c.place.ports); err != nil {
		c.k.log("container %s: published ports: %v", c.name(), err)
	}
}

// resumeHealth goes on with the health that was recorded.
func (c *container) resumeHealth() {
	p, ok := HealthPlan(c.rec)
	if !ok {
		return
	}
	c.health = &p
	if c.state.Health == nil {
		c.state.Health = &engine.Health{Status: starting}
	}
	if c.state.Status == engine.Running {
		c.scheduleProbe()
	}
}

// waitAgain goes on with a back-off: what is left of it, as if the keeper had
// lived.
func (c *container) waitAgain() {
	wait := max(time.Duration(c.state.RestartWait), firstWait)
	c.streak = Streak{Wait: wait, Count: c.state.Restarts + 1}
	if d := c.rec.Spec.Restart.Delay; d > 0 {
		wait = time.Duration(d)
	}
	c.again.set(max(0, min(wait, wait-time.Since(c.state.FinishedAt))))
}
