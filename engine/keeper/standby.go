package keeper

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
)

// A standby is the start of a container beside the end of the one whose place it
// takes, as far as nobody can see it: its process stands ready behind its walls,
// in a network namespace that no link leads to, and waits for the word. It lies
// in memory alone: if the keeper is killed, the process is swept away as what any
// start leaves that was cut short.
type standby struct {
	live   *live
	word   chan struct{} // closed: go on
	cancel context.CancelFunc
	done   chan struct{} // closed when err is known
	err    error
}

// unused is how long a container stands by for a start that does not come.
const unused = 10 * time.Second

// foresee has a container stand by that is about to be started, for as long as the
// old one lives: once that has ended, others may be at work on the next one's files.
func (k *Keeper) foresee(id, old string) {
	c, err := k.find(wire.Request{Op: wire.OpStart, ID: id})
	if err != nil {
		return
	}
	go c.bring(func() {
		if k.living(old) {
			c.standBy()
		}
	})
}

// standsBy tells whether a start may be begun before the container before this
// one has ended. A volume may be filled only when that one has left it; sysctls
// may name a link; a terminal's and a shared namespace's starts are left alone.
func standsBy(s engine.Spec) bool {
	if s.TTY || s.OpenStdin || len(s.Endpoints) == 0 || len(s.Security.Sysctls) > 0 || s.Security.PID != "" || s.Security.IPC != "" {
		return false
	}
	return !slices.ContainsFunc(s.Mounts, func(m engine.Mount) bool { return m.Type == engine.MountVolume })
}

// standBy begins the start of a container. Whatever is against it, the start that
// is asked for later does all of it, and tells.
func (c *container) standBy() {
	if c.live != nil || c.ready != nil || c.damaged != nil || c.state.Status != engine.Created || !standsBy(c.rec.Spec) {
		return
	}
	select {
	case c.k.starts <- struct{}{}:
	default:
		return // others are in more of a hurry
	}
	begun := sync.OnceFunc(func() { <-c.k.starts })
	ctx, cancel := context.WithCancel(c.k.ctx)
	s := &standby{live: &live{}, word: make(chan struct{}), cancel: cancel, done: make(chan struct{})}
	c.ready = s
	c.k.standing.Add(1)
	c.unused.set(unused)
	launch, err := c.rehearse(ctx, s)
	if err != nil {
		s.err = err
		close(s.done)
		begun()
		c.standDown()
		return
	}
	launch.Word = func(ctx context.Context) error {
		begun()
		select {
		case <-s.word:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	go func() {
		defer begun()
		defer close(s.done)
		defer launch.close()
		s.live.proc, s.err = c.k.o.Runtime.Start(ctx, launch)
	}()
}

// rehearse makes what the process needs before it is there.
func (c *container) rehearse(ctx context.Context, s *standby) (Launch, error) {
	if _, err := c.namespace(ctx); err != nil {
		return Launch{}, err
	}
	// In place: what is not known yet is written into the same files later.
	if err := c.writeFiles(); err != nil {
		return Launch{}, err
	}
	launch, _, err := c.equip(c.k.ctx, s.live)
	return launch, err
}

// comeOn gives the word to a container that stands by, and returns its run. Nil:
// there is none, and nothing is left of one that failed.
func (c *container) comeOn() *live {
	s := c.ready
	if s == nil {
		return nil
	}
	close(s.word)
	<-s.done
	if s.err == nil {
		s.err = c.follow(s.live, nil)
	}
	if s.err != nil {
		c.k.log("container %s stood by in vain: %v", c.name(), s.err)
		c.callOff()
		return nil
	}
	c.stoodBy()
	return s.live
}

// standDown takes back what was made of a start that nobody asks for.
func (c *container) standDown() {
	s := c.ready
	if s == nil {
		return
	}
	s.cancel()
	<-s.done
	c.callOff()
	c.closeSandbox()
	_ = c.k.o.Keep.Drop(c.kept(""))
	c.k.touch()
}

// callOff ends a standby whose start has failed, all but its namespace.
func (c *container) callOff() {
	c.ready.live.release()
	_ = c.k.o.Runtime.Clean(c.id)
	_ = c.k.o.Keep.Drop(c.streamsKept()...)
	c.stoodBy()
}

func (c *container) stoodBy() {
	c.ready.cancel()
	c.ready = nil
	c.unused.stop()
	c.k.standing.Add(-1)
}

// standDown has all containers stand down.
func (k *Keeper) standDown() {
	k.mu.Lock()
	var all []*container
	for _, c := range k.containers {
		all = append(all, c)
	}
	k.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range all {
		wg.Go(func() {
			down := make(chan struct{})
			c.bring(func() { c.standDown(); close(down) })
			select {
			case <-down:
			case <-c.done:
			case <-k.ctx.Done():
			}
		})
	}
	wg.Wait()
}
