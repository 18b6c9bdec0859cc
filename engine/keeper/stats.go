package keeper

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
)

// A meter is a Process that knows what it uses.
type meter interface {
	Stats() (engine.Stats, error)
}

// stats tells what one container uses, or all that live.
func (k *Keeper) stats(ctx context.Context, conn *net.UnixConn, req wire.Request) error {
	var all []*container
	if req.ID != "" {
		c, err := k.find(req)
		if err != nil {
			return err
		}
		all = append(all, c)
	} else {
		k.mu.Lock()
		for _, c := range k.containers {
			if c.lives.Load() {
				all = append(all, c)
			}
		}
		k.mu.Unlock()
	}
	for _, c := range all {
		a, err := c.ask(ctx, wire.Request{Op: wire.OpStats, ID: c.id})
		var gone *refusal
		if errors.As(err, &gone) && req.ID == "" {
			continue // it ended just now
		}
		if err != nil {
			return err
		}
		r := wire.Reply{ID: c.id, Name: c.name(), Stats: a.stats, At: time.Now().UTC()}
		if err := wire.Send(conn, r); err != nil {
			return err
		}
	}
	return wire.Send(conn, wire.Reply{Done: true})
}

func (c *container) stats() answer {
	if c.live == nil {
		return answer{err: refuse("conflict", "container %s is not running", c.name())}
	}
	m, ok := c.live.proc.(meter)
	if !ok {
		return answer{stats: &engine.Stats{}}
	}
	s, err := m.Stats()
	if err != nil {
		return answer{err: refuse("conflict", "container %s: %w", c.name(), err)}
	}
	return answer{stats: &s}
}
