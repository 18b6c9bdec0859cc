package keeper

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
)

// openPIDFD opens a pidfd that Go's poller can wait for.
func openPIDFD(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid)), nil
}

// watchExit has the end of the present process come to c.exit, looked at but
// not reaped. It costs a goroutine and no thread.
func (c *container) watchExit() {
	pid, ticks, pidfd := c.state.PID, c.state.StartTicks, c.live.pidfd
	dir := c.k.o.Layout.Exits(c.k.o.Project)
	go func() {
		if !untilEnded(pidfd) {
			return // closed: nobody wants to know
		}
		e := howEnded(dir, pid, ticks, pidfd)
		select {
		case c.exit <- e:
		case <-c.k.ctx.Done():
		}
	}()
}

// untilEnded waits until the process of a pidfd has ended; false when the
// pidfd was closed instead.
func untilEnded(pidfd *os.File) bool {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return false
	}
	return rc.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	}) == nil
}

// dying bounds how long a process that is on its way out may take to be seen as
// ended, on a host that has no time for it.
const dying = 10 * time.Second

// over tells whether the process of this run has ended, or is on its way out,
// whoever knows of it by now: one that can no longer be joined has given up its
// namespaces before it is seen as ended (do_exit of Linux).
func (l *live) over() bool {
	rc, err := l.pidfd.SyscallConn()
	if err != nil {
		return true
	}
	for end := time.Now().Add(dying); ; time.Sleep(time.Millisecond) {
		ended := false
		err = rc.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(p, 0)
			ended = err == nil && n > 0
		})
		if ended || err != nil { // closed: long over
			return true
		}
		if l.proc == nil || !anchor.Leaving(l.proc.PID()) || time.Now().After(end) {
			return false
		}
	}
}

// unknownExit is the exit code of a process whose end nobody saw, as Docker
// has it.
const unknownExit = 255

// howEnded tells how a process that has ended did so: our own children are
// asked, those of a keeper before us were recorded by the anchor, and where
// that died too the process may not have been reaped yet, or the kernel
// remembers what a pidfd's process left (6.15).
func howEnded(dir string, pid int, ticks uint64, pidfd *os.File) anchor.Exit {
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		e, ok, err := anchor.Look(unix.P_PID, pid)
		if ok && err == nil && (ticks == 0 || e.StartTicks == ticks) {
			return e
		}
		if e, err := anchor.Recorded(dir, pid, ticks); err == nil {
			return e
		}
		if e, err := anchor.Unreaped(pid, ticks); err == nil {
			return e
		}
		if e, err := anchor.Remembered(pidfd); err == nil {
			e.PID, e.StartTicks = pid, ticks
			return e
		}
		time.Sleep(wait) // the anchor is about to record it
	}
	return anchor.Exit{PID: pid, StartTicks: ticks, Code: 1, Status: unknownExit, At: time.Now()}
}

// ended records how the process ended, then takes everything of the run away
// and follows the policy.
func (c *container) ended(e anchor.Exit) {
	l := c.live
	if l == nil {
		return
	}
	c.grace.stop()
	c.endHealth()
	ran := time.Since(l.since)
	s := &c.state
	s.ExitCode, s.FinishedAt, s.PID, s.StartTicks = e.ExitCode(), e.At.UTC(), 0, 0
	if l.proc != nil {
		s.OOMKilled = l.proc.OOMKilled()
	} else {
		s.OOMKilled = c.k.o.Runtime.OOMKilled(c.id)
	}
	wait, again, streak := c.next(Ending{Code: s.ExitCode, Ran: ran, Asked: s.Asked, Unhealthy: c.ailing})
	c.ailing = false
	s.RestartWait = engine.Duration(streak.Wait)
	s.Status = engine.Exited
	if again {
		s.Status = engine.Restarting
	}
	c.finish(l) // whoever reads the record finds all output in the log
	// What a person asked for needs no sync: they are told only when all is
	// done, and a power cut ends the rest in any case.
	_ = c.k.o.Layout.SaveState(c.k.o.Project, c.id, s, !s.Asked && !c.forget)
	c.reap(l, e)
	l.release()
	c.live, c.stopping, c.killed = nil, false, false
	_ = c.k.o.Keep.Drop(c.streamsKept()...)
	if s.OOMKilled {
		c.event("oom", "")
	}
	c.event("die", deathReason(e, s), "exitCode", strconv.Itoa(s.ExitCode))
	c.resume(wait, again, streak)
}

// next asks the policy; a container that is to be removed never runs again.
func (c *container) next(e Ending) (time.Duration, bool, Streak) {
	if len(c.removes) > 0 || c.rec.AutoRemove || c.k.leave.Load() {
		e.Asked = true
	}
	return Next(c.rec.Spec.Restart, e, c.streak)
}

// finish ends what the first process left behind and takes the last output.
func (c *container) finish(l *live) {
	if l.proc != nil {
		if err := l.proc.KillAll(); err != nil {
			c.k.log("container %s: kill what is left: %v", c.name(), err)
		}
	}
	l.drain()
}

// reap takes the first process off the process table; it is a zombie until
// here, so that its status outlives a keeper that is killed before.
func (c *container) reap(l *live, e anchor.Exit) {
	if e.PID > 0 {
		if got, ok, err := anchor.Look(unix.P_PID, e.PID); ok && err == nil && got.StartTicks == e.StartTicks {
			l.reap(e.PID)
		}
		_ = anchor.Forget(c.k.o.Layout.Exits(c.k.o.Project), e.PID, e.StartTicks)
	}
	if l.proc == nil {
		if err := c.k.o.Runtime.Clean(c.id); err != nil {
			c.k.log("container %s: %v", c.name(), err)
		}
	} else if err := l.proc.Destroy(); err != nil {
		c.k.log("container %s: %v", c.name(), err)
	}
}

func (l *live) reap(pid int) {
	if l.proc == nil || l.proc.Reap() != nil {
		anchor.Reap(pid)
	}
}

// resume goes on after a run has ended: again after a wait, or not.
func (c *container) resume(wait time.Duration, again bool, streak Streak) {
	ctx := c.k.ctx
	c.streak = streak
	if again {
		c.again.set(wait)
		c.publish()
		if err := c.renew(ctx); err != nil { // in the back-off, not after it
			c.k.log("container %s: new sandbox: %v", c.name(), err)
		}
		c.settle(nil)
		return
	}
	c.hush()
	c.disconnect(ctx)
	_ = c.k.o.Keep.Drop(c.kept(""))
	c.publish()
	c.settle(nil)
	switch {
	case len(c.removes) > 0:
		c.remove()
	default:
		c.autoRemove()
	}
}

// after follows the policy for a restart that did not get as far as a process.
func (c *container) after(code int, ran time.Duration, last int) {
	wait, again, streak := c.next(Ending{Code: code, Ran: ran})
	c.state.Status, c.state.RestartWait = engine.Exited, engine.Duration(streak.Wait)
	if again {
		c.state.Status = engine.Restarting
	}
	c.state.ExitCode = last
	_ = c.save(false)
	c.resume(wait, again, streak)
}

// streamsKept are the descriptors that belong to one run.
func (c *container) streamsKept() []string {
	var names []string
	for _, n := range []string{"pid", "stdout", "stderr", "stdin", "console", "conr", "conw"} {
		names = append(names, c.kept(n))
	}
	return names
}

func deathReason(e anchor.Exit, s *engine.State) string {
	switch {
	case s.OOMKilled:
		return "out of memory"
	case s.Asked:
		return "stopped"
	case e.Signal() != 0:
		return "killed by " + unix.SignalName(unix.Signal(e.Signal()))
	}
	return "exited with " + strconv.Itoa(e.ExitCode())
}
