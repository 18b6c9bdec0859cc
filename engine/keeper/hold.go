package keeper

import (
	"context"
	"net"
	"time"

	"github.com/davit-run/davit/engine/keeper/wire"
)

// hold tells a caller of a container's end, registered before it is started.
// Until the caller leaves, a container that is removed by itself stays: its
// output can be read to the end.
func (k *Keeper) hold(ctx context.Context, conn *net.UnixConn, req wire.Request) error {
	c, err := k.find(req)
	if err != nil {
		return err
	}
	reply := make(chan answer, 1)
	select {
	case c.calls <- call{req, reply}:
	case <-c.done:
		return refuse("not-found", "container %s was removed", c.name())
	case <-ctx.Done():
		return ctx.Err()
	}
	defer c.letGo()
	if err := wire.Send(conn, wire.Reply{ID: c.id, Name: c.name(), At: time.Now().UTC()}); err != nil {
		return err
	}
	var a answer
	select {
	case a = <-reply:
	case <-c.done:
		a = answer{state: c.snapshot.Load()}
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.err != nil {
		return a.err
	}
	if err := wire.Send(conn, wire.Reply{ID: c.id, Name: c.name(), State: a.state, At: time.Now().UTC()}); err != nil {
		return err
	}
	<-ctx.Done() // the caller has seen all it wants
	return nil
}

// letGo ends one hold, and returns when what it kept is removed.
func (c *container) letGo() {
	over := make(chan struct{})
	c.bring(func() {
		defer close(over)
		c.holds--
		c.autoRemove()
	})
	select {
	case <-over:
	case <-c.done:
	case <-c.k.ctx.Done():
	}
}

// autoRemove removes a container that asked for it, once it has run and nobody
// looks at it any more.
func (c *container) autoRemove() {
	if !c.rec.AutoRemove || c.holds > 0 || c.live != nil || c.gone || c.state.StartedAt.IsZero() {
		return
	}
	c.removes = append(c.removes, call{reply: make(chan answer, 1)})
	c.removes[0].req.Volumes = true
	c.remove()
}
