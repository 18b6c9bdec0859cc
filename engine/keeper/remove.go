package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/quota"
	"github.com/davit-run/davit/logs/journal"
)

// removeCall takes the container away; one that runs is killed first.
func (c *container) removeCall(l call) {
	c.removes = append(c.removes, l)
	if c.live != nil {
		c.forget = true
		c.asked()
		if !c.killed {
			if c.state.Status == engine.Paused {
				_ = c.unpause()
			}
			c.killAll()
		}
		return // ended goes on
	}
	c.again.stop()
	c.remove()
}

// remove takes away what the kernel and the disk have of the container, its
// record last: whatever interrupts it, the next attempt goes on from there.
func (c *container) remove() {
	calls := c.removes
	c.removes = nil
	c.k.sendAway(c.id, nil)
	err := c.removeAll(slices.ContainsFunc(calls, func(l call) bool { return l.req.Volumes }))
	if err != nil {
		err = fmt.Errorf("remove container %s: %w", c.name(), err)
		c.state.Status, c.state.Error = engine.Dead, err.Error()
		_ = c.save(false)
		c.k.log("%v", err)
		for _, l := range calls {
			l.reply <- answer{err: err}
		}
		return
	}
	if c.rec.Name != short(c.id) { // one whose record was gone already was told of then
		c.event("destroy", "")
	}
	c.k.mu.Lock()
	delete(c.k.containers, c.id)
	c.k.mu.Unlock()
	c.gone = true
	c.lives.Store(false)
	for _, l := range calls {
		l.reply <- answer{}
	}
	c.settle(nil)
}

func (c *container) removeAll(volumes bool) error {
	dir := c.k.o.Layout.Container(c.k.o.Project, c.id)
	if _, err := os.Lstat(dir); err == nil {
		c.state.Status = engine.Removing
		_ = c.save(false) // the intent; a full disk must not keep anybody from removing
	}
	ctx := c.k.ctx
	err := errors.Join(c.k.o.Runtime.Clean(c.id), c.disconnectAll(ctx))
	if err != nil {
		return err
	}
	_ = c.k.o.Keep.Drop(c.kept(""))
	if volumes && c.k.o.Volumes != nil {
		for _, name := range c.rec.Volumes {
			if err := c.k.o.Volumes.RemoveAnonymous(name, c.id); err != nil {
				return err
			}
		}
	}
	c.bequeath()
	return removeDir(dir)
}

// bequeath hands the log on to the container that takes this one's place. A log
// that cannot be handed on keeps nobody from removing the container.
func (c *container) bequeath() {
	heir := c.k.o.Layout.Heir(c.k.o.Project, c.id)
	if heir == "" {
		return
	}
	o, _ := journal.OptionsFor(c.rec.Spec.Log.Options) // unreadable ones are the defaults
	to := filepath.Join(c.k.o.Layout.Container(c.k.o.Project, heir), "log")
	if err := journal.Inherit(to, c.logDir(), o.Total()); err != nil {
		c.k.log("container %s: %v", c.name(), err)
	}
}

// removeDir removes a container's directory, its records last. What a command
// puts there meanwhile goes with it.
func removeDir(dir string) error {
	for try := 0; ; try++ {
		err := removeOnce(dir)
		if !errors.Is(err, unix.ENOTEMPTY) || try == 9 {
			return err
		}
	}
}

func removeOnce(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return os.RemoveAll(dir) // not a directory: damage
	}
	if err := quota.Lift(filepath.Join(dir, "upper")); err != nil {
		return err
	}
	last := []string{"state.json", "container.json"}
	for _, e := range entries {
		if slices.Contains(last, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	for _, name := range last {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return store.Remove(dir)
}
