package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// defaultGrace is Docker's time between the stop signal and SIGKILL.
const defaultGrace = 10 * time.Second

// stuck is how long after SIGKILL a process may take to be gone.
const stuck = 30 * time.Second

// ParseSignal reads a signal's name, with or without SIG, or its number.
func ParseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("signal %d: use 1 to 64", n)
		}
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	if n, ok := realtime(name); ok {
		return n, nil
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}

// realtime reads SIGRTMIN+n and SIGRTMAX-n, as glibc counts them (34 to 64).
func realtime(name string) (unix.Signal, bool) {
	for base, first := range map[string]int{"SIGRTMIN": 34, "SIGRTMAX": 64} {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		n := 0
		if rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				return 0, false
			}
		}
		if sig := first + n; sig >= 34 && sig <= 64 {
			return unix.Signal(sig), true
		}
	}
	return 0, false
}

// stopSignal is the container's own: its record's, its image's, SIGTERM.
func (c *container) stopSignal() (unix.Signal, error) {
	return ParseSignal(cmp.Or(c.rec.Spec.StopSignal, c.rec.ImageConfig.StopSignal, "SIGTERM"))
}

func (c *container) stopCall(l call) {
	c.forget = c.forget || l.req.Forget
	if c.live == nil {
		c.haltRestarts()
		l.reply <- c.answer("", nil)
		return
	}
	sig, err := c.stopSignal()
	if err == nil && l.req.Signal != "" {
		sig, err = ParseSignal(l.req.Signal)
	}
	if err != nil {
		l.reply <- answer{err: err}
		return
	}
	grace := defaultGrace
	if t := cmp.Or(l.req.Timeout, c.rec.Spec.StopTimeout); t != nil {
		grace = time.Duration(*t)
	}
	c.stops = append(c.stops, l.reply)
	c.asked()
	if c.stopping { // a second one can only be more impatient
		if l.req.Timeout != nil && !c.killed {
			c.arm(grace)
		}
		return
	}
	c.stopping = true
	next := c.succession(l.req)
	if next != "" && next != c.id {
		c.k.foresee(next, c.id)
	}
	c.event("stop", l.req.Reason)
	c.preStop(grace, func() {
		c.suspend(next)
		c.terminate(sig, grace)
	})
}

// asked records that whatever ends the container now was wanted, before it
// ends: a keeper after us must not restart it.
func (c *container) asked() {
	if !c.state.Asked {
		c.state.Asked = true
		_ = c.save(false)
	}
}

// haltRestarts ends a back-off for good.
func (c *container) haltRestarts() {
	if c.state.Status != engine.Restarting {
		return
	}
	c.again.stop()
	c.state.Status, c.state.Asked = engine.Exited, true
	_ = c.save(true)
	c.disconnect(c.k.ctx)
	_ = c.k.o.Keep.Drop(c.kept(""))
	c.settle(nil)
}

// preStop runs the hooks of that name, within the grace period, then f.
func (c *container) preStop(grace time.Duration, f func()) {
	hooks := c.rec.Spec.Hooks.PreStop
	if len(hooks) == 0 {
		f()
		return
	}
	run := c.live
	go func() {
		ctx, cancel := context.WithTimeout(c.k.ctx, max(grace, time.Second))
		defer cancel()
		if err := c.hooks(ctx, run, "pre_stop", hooks); err != nil {
			c.k.log("container %s: %v", c.name(), err)
		}
		c.bring(func() {
			if c.live != nil {
				f()
			}
		})
	}()
}

// terminate asks the container to end, and has it killed after the grace.
func (c *container) terminate(sig unix.Signal, grace time.Duration) {
	if c.state.Status == engine.Paused { // a frozen process sees no signal
		_ = c.unpause()
	}
	if sig == unix.SIGKILL || grace == 0 {
		c.killAll()
		return
	}
	c.arm(grace)
	c.tell(c.live, c.state.PID, sig)
}

// tell sends the stop signal to a run that has not ended and is not about to, and
// once more when its process can hear it: one that is stopped as soon as it was
// started has not had the time for a handler, and the kernel throws the first one
// away. One that is still the runtime's own gets none before it is the program.
func (c *container) tell(run *live, pid int, sig unix.Signal) {
	if c.live != run || c.killed {
		return
	}
	if c.ignores = early(pid); c.ignores {
		go c.tellOnce(run, pid, sig, func() bool { return !early(pid) })
		return
	}
	c.ignores = ignored(pid, sig)
	if err := c.signal(sig); err != nil {
		c.k.log("container %s: stop signal: %v", c.name(), err)
		c.killAll()
		return
	}
	if c.ignores {
		go c.tellOnce(run, pid, sig, func() bool { return !ignored(pid, sig) })
	}
}

// hearing is how often it is looked whether a process can hear its stop signal
// by now.
const hearing = 20 * time.Millisecond

// tellOnce is tell once that is so.
func (c *container) tellOnce(run *live, pid int, sig unix.Signal, so func() bool) {
	for !so() {
		select {
		case <-c.k.ctx.Done():
			return
		case <-time.After(hearing):
		}
	}
	c.bring(func() { c.tell(run, pid, sig) })
}

// initName is what a process is called (/proc/PID/comm) until it executes the
// container's program: libcontainer's nsexec.c names it so.
const initName = "runc:[2:INIT]\n"

// early tells a process that has not become the container's program yet. It has
// Go's handlers, which would take a stop signal for the runtime's own end.
func early(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	return err == nil && string(b) == initName
}

// ignored tells whether a container's first process lets a signal pass unseen:
// the kernel applies no default action to the first process of a pid namespace
// (pid_namespaces(7)), so what it has no handler for (SigCgt of proc(5)) is
// nothing to it. One that ignores the signal on purpose (SigIgn) means it. False
// where nobody can tell.
func ignored(pid int, sig unix.Signal) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	for _, set := range []string{"\nSigCgt:", "\nSigIgn:"} {
		_, rest, _ := strings.Cut(string(b), set)
		word, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
		signals, err := strconv.ParseUint(word, 16, 64)
		if err != nil || signals&(1<<(uint(sig)-1)) != 0 {
			return false
		}
	}
	return true
}

// ignorance tells the caller of a stop why it took the whole grace period.
func (c *container) ignorance() string {
	if !c.deaf || c.rec.Spec.Init {
		return ""
	}
	sig, err := c.stopSignal()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("its first process has no handler for %s, so it was killed after the grace period; `init: true` gives it one that passes signals on", unix.SignalName(sig))
}

// arm sets the end of the grace period; a negative one never ends.
func (c *container) arm(grace time.Duration) {
	c.grace.stop()
	if grace >= 0 {
		c.grace.set(grace)
	}
}

// graceOver comes after the grace period, and once more when even SIGKILL has
// not ended the container.
func (c *container) graceOver() {
	if c.live == nil {
		return
	}
	if !c.killed {
		c.deaf = c.ignores
		c.killAll()
		return
	}
	err := fmt.Errorf("container %s: process %d does not end after SIGKILL; it waits in the kernel (see /proc/%[2]d/stack)", c.name(), c.state.PID)
	c.settle(err)
	for _, r := range c.removes {
		r.reply <- answer{err: err}
	}
	c.removes, c.stopping = nil, false
}

func (c *container) killAll() {
	c.killed = true
	c.grace.set(stuck)
	p, l := c.live.proc, c.live
	if p == nil {
		_ = unix.PidfdSendSignal(int(l.pidfd.Fd()), unix.SIGKILL, nil, 0)
		return
	}
	if err := p.KillAll(); err != nil {
		c.k.log("container %s: kill: %v", c.name(), err)
	}
}

func (c *container) signal(sig unix.Signal) error {
	var err error
	serr := withFD(c.live.pidfd, func(fd int) error {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
		return nil
	})
	if errors.Is(err, unix.ESRCH) { // it has ended: that comes by itself
		return nil
	}
	return errors.Join(serr, err)
}

// kill sends a signal and waits for nothing. SIGKILL, and the container's own
// stop signal, mean that it is to stay down.
func (c *container) kill(name, reason string) error {
	if c.live == nil {
		return refuse("conflict", "container %s is not running", c.name())
	}
	sig, err := ParseSignal(cmp.Or(name, "SIGKILL"))
	if err != nil {
		return err
	}
	if own, err := c.stopSignal(); sig == unix.SIGKILL || err == nil && sig == own {
		c.asked()
		if c.state.Status == engine.Paused {
			_ = c.unpause()
		}
	}
	c.event("kill", reason, "signal", strconv.Itoa(int(sig)))
	if sig == unix.SIGKILL {
		c.killAll()
		return nil
	}
	return c.signal(sig)
}

func (c *container) pause() error {
	switch {
	case c.live == nil || c.live.proc == nil:
		return refuse("conflict", "container %s is not running", c.name())
	case c.state.Status == engine.Paused:
		return refuse("conflict", "container %s is paused already", c.name())
	}
	if err := c.live.proc.Pause(); err != nil {
		return fmt.Errorf("pause container %s: %w", c.name(), err)
	}
	c.pauseHealth()
	c.state.Status = engine.Paused
	c.event("pause", "")
	return c.save(false)
}

func (c *container) unpause() error {
	if c.live == nil || c.state.Status != engine.Paused {
		return refuse("conflict", "container %s is not paused", c.name())
	}
	if err := c.live.proc.Resume(); err != nil {
		return fmt.Errorf("unpause container %s: %w", c.name(), err)
	}
	c.state.Status = engine.Running
	c.scheduleProbe()
	c.event("unpause", "")
	return c.save(false)
}
