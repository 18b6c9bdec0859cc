package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/logs"
	"github.com/davit-run/davit/logs/journal"
)

// recover goes on where the keeper before this one was killed: living
// containers are adopted, ended ones come to their end, interrupted removals
// are finished, and what no record refers to is destroyed.
func (k *Keeper) recover() {
	ids, err := store.Names(k.o.Layout.Containers(k.o.Project))
	if err != nil {
		k.log("recover: %v", err)
	}
	again := len(k.kept) > 0
	var all []*container
	for _, id := range ids {
		if !validID(id) {
			continue
		}
		rec, err := k.o.Layout.LoadContainer(k.o.Project, id)
		if errors.Is(err, store.ErrNotFound) && !k.hasKept(id) {
			continue // a command is about to write it, or was killed before it did
		}
		if err != nil {
			k.log("recover: %v", err)
			rec = &engine.Container{ID: id, Name: short(id), Project: k.o.Project}
		} else if rec.ID != id {
			continue
		}
		k.mu.Lock()
		c := k.adopt(rec, err)
		k.mu.Unlock()
		if c.state.Status != engine.Created {
			again = true
		}
		all = append(all, c)
	}
	for _, c := range all {
		c.recover()
	}
	if again {
		k.sweep()
	}
	for _, c := range all {
		go c.run()
	}
}

// hasKept tells whether the keeper before had anything open for a container.
func (k *Keeper) hasKept(id string) bool {
	for name := range k.kept {
		if strings.HasPrefix(name, "c/"+id+"/") {
			return true
		}
	}
	return false
}

// sweep destroys what no record refers to.
func (k *Keeper) sweep() {
	left, err := k.o.Runtime.Left()
	if err != nil {
		k.log("recover: %v", err)
	}
	for _, id := range left {
		if c := k.containers[id]; c == nil || c.live == nil {
			if err := k.o.Runtime.Clean(id); err != nil {
				k.log("recover: %v", err)
			}
		}
	}
	stale := map[string]bool{}
	for name, f := range k.kept {
		f.Close()
		if parts := strings.SplitN(name, "/", 3); len(parts) == 3 && parts[0] == "c" {
			stale["c/"+parts[1]+"/"+parts[2]] = true
		}
	}
	clear(k.kept)
	for name := range stale {
		_ = k.o.Keep.Drop(name)
	}
	k.prune()
	if _, err := os.Stat(k.o.Layout.Networks()); err != nil {
		return
	}
	go func() {
		host, err := k.network()
		if err == nil {
			err = host.Recover(k.ctx)
		}
		if err != nil && k.ctx.Err() == nil {
			k.log("recover networks: %v", err)
		}
	}()
}

// prune forgets the exits that no living container waits for.
func (k *Keeper) prune() {
	dir := k.o.Layout.Exits(k.o.Project)
	names, err := store.Names(dir)
	if err != nil {
		return
	}
	wanted := map[string]bool{}
	for _, c := range k.containers {
		if c.live != nil {
			wanted[fmt.Sprintf("%d-%d", c.state.PID, c.state.StartTicks)] = true
		}
	}
	for _, n := range names {
		if !wanted[n] {
			_ = store.Remove(dir + "/" + n)
		}
	}
}

// recover brings one container back to where it was; its goroutine does not
// run yet.
func (c *container) recover() {
	pidfd := c.k.takeKept(c.kept("pid"))
	c.restorePlace()
	switch {
	case c.damaged != nil:
		if pidfd != nil { // it may run on, and be removed
			c.readopt(pidfd)
		}
	case c.state.Status == engine.Removing:
		c.removes = append(c.removes, call{reply: make(chan answer, 1)})
		c.remove()
	case pidfd != nil:
		c.readopt(pidfd)
	case c.wasRunning() && c.state.BootID != bootID():
		c.lostToReboot()
	case c.wasRunning():
		c.orphaned()
	case c.state.Status == engine.Restarting:
		c.waitAgain()
	default:
		c.disconnect(c.k.ctx)
	}
}

func (c *container) wasRunning() bool {
	return c.state.Status == engine.Running || c.state.Status == engine.Paused
}

// lostToReboot: the machine stopped, and with it the container.
func (c *container) lostToReboot() {
	s := &c.state
	s.Status, s.PID, s.StartTicks, s.ExitCode = engine.Exited, 0, 0, unknownExit
	s.Error = "the host was restarted while it ran"
	if s.FinishedAt.IsZero() || s.FinishedAt.Before(s.StartedAt) {
		s.FinishedAt = time.Now().UTC()
	}
	_ = c.save(false)
}

// orphaned: anchor and keeper died together, and nothing was kept. What lives
// is found by its pid and start time, and its output by its own descriptors.
func (c *container) orphaned() {
	if ticks, err := anchor.StartTicks(c.state.PID); err == nil && ticks == c.state.StartTicks {
		if pidfd, err := openPIDFD(c.state.PID); err == nil {
			if again, err := anchor.StartTicks(c.state.PID); err == nil && again == ticks {
				_ = c.k.o.Keep.Put(c.kept("pid"), pidfd)
				c.readopt(pidfd)
				return
			}
			pidfd.Close()
		}
	}
	e, err := anchor.Recorded(c.k.o.Layout.Exits(c.k.o.Project), c.state.PID, c.state.StartTicks)
	if err != nil {
		e, err = anchor.Unreaped(c.state.PID, c.state.StartTicks)
	}
	if err != nil {
		e = anchor.Exit{Code: 1, Status: unknownExit, At: time.Now()}
		c.state.Error = "nobody saw how it ended"
	}
	e.PID, e.StartTicks = c.state.PID, c.state.StartTicks
	c.live = &live{since: c.since()}
	c.streak = Streak{Wait: time.Duration(c.state.RestartWait), Count: c.state.Restarts}
	c.exit <- e
}

// readopt takes a process over, living or dead: if it has ended, the watch
// says so at once.
func (c *container) readopt(pidfd *os.File) {
	l := &live{pidfd: pidfd, since: c.since()}
	c.streak = Streak{Wait: time.Duration(c.state.RestartWait), Count: c.state.Restarts}
	if pid, err := pidOf(pidfd); err == nil && pid > 0 && pid != c.state.PID {
		// The keeper was killed between the start and its record.
		ticks, _ := anchor.StartTicks(pid)
		c.state.Status, c.state.PID, c.state.StartTicks, c.state.BootID = engine.Running, pid, ticks, bootID()
		c.state.StartedAt, c.state.FinishedAt = time.Now().UTC(), time.Time{}
		c.state.Endpoints, c.state.Ports = c.place.endpoints(), c.place.bound()
	}
	var err error
	if l.proc, err = c.k.o.Runtime.Adopt(c.id); err != nil {
		l.proc = nil
	}
	c.live = l
	c.killed, c.stopping = false, false
	if err := c.reopenStreams(l); err != nil {
		c.k.log("container %s: %v", c.name(), err)
	}
	c.resumeHealth()
	if c.state.Asked { // somebody was stopping it, and has gone or asks again
		c.arm(c.graceLeft())
	}
	_ = c.save(false)
	c.watchExit()
}

// graceLeft is how long a container that was being stopped may still take: the
// whole period again, since nobody knows when it began.
func (c *container) graceLeft() time.Duration {
	if t := c.rec.Spec.StopTimeout; t != nil {
		return time.Duration(*t)
	}
	return defaultGrace
}

// since is when the run began, on the monotonic clock.
func (c *container) since() time.Time {
	ran := time.Since(c.state.StartedAt)
	if up, err := uptimeOf(c.state.StartTicks); err == nil {
		ran = up // the wall clock may have jumped
	}
	return time.Now().Add(-max(ran, 0))
}

// uptimeOf is how long ago a process with that start time began.
func uptimeOf(ticks uint64) (time.Duration, error) {
	if ticks == 0 {
		return 0, errors.New("no start time")
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, err
	}
	// USER_HZ is 100 on every architecture Go runs on.
	return time.Duration(now.Nano()) - time.Duration(ticks)*10*time.Millisecond, nil
}

// reopenStreams goes on journalling from the kept ends of the pipes.
func (c *container) reopenStreams(l *live) error {
	driver, err := journal.DriverFor(c.rec.Spec.Log.Driver, c.rec.Spec.Log.Options)
	if err != nil { // the receiver has gone meanwhile: the journal has it all
		c.k.log("container %s: %v", c.name(), err)
		driver = journal.Driver{Keep: true}
	}
	files := make(map[string]*os.File)
	for _, n := range []string{"stdout", "stderr", "console", "conr", "conw"} {
		if f := c.k.takeKept(c.kept(n)); f != nil {
			files[c.kept(n)] = f
		}
	}
	l.stdin = c.k.takeKept(c.kept("stdin"))
	l.console = files[c.kept("console")]
	if len(files) == 0 {
		files = c.findStreams()
	}
	l.pumping, l.cancel = context.WithCancel(c.k.ctx)
	if err := c.openLog(l, driver); err != nil {
		return err
	}
	c.pump(l, files)
	return nil
}

// findStreams opens the pipes of a container whose keeper and anchor both
// died, through its first process.
func (c *container) findStreams() map[string]*os.File {
	files := make(map[string]*os.File)
	if c.rec.Spec.TTY || c.state.PID == 0 {
		return files
	}
	for i, s := range []logs.Stream{logs.Stdout, logs.Stderr} {
		path := fmt.Sprintf("/proc/%d/fd/%d", c.state.PID, i+1)
		if to, err := os.Readlink(path); err != nil || !strings.HasPrefix(to, "pipe:") {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), path)
		files[c.kept(string(s))] = f
		_ = c.k.o.Keep.Put(c.kept(string(s)), f)
	}
	return files
}

// pidOf reads which process a pidfd is of (pidfd_open(2), fdinfo).
func pidOf(pidfd *os.File) (pid int, err error) {
	var b []byte
	err = withFD(pidfd, func(fd int) (err error) {
		b, err = os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
		return err
	})
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(b)))
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "Pid:"); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return 0, errors.New("pidfd has no pid")
}
