package keeper

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/logs"
	"github.com/davit-run/davit/logs/journal"
)

// A live is one run of a container: what exists from its start to its end.
type live struct {
	proc    Process
	pidfd   *os.File
	journal *journal.Writer
	discard bool            // the logging driver is none
	stdin   *os.File        // write end; nil without open input
	console *os.File        // the terminal's master; nil without one
	pumping context.Context // until cancel
	cancel  context.CancelFunc
	pumps   sync.WaitGroup
	since   time.Time // monotonic
}

func (c *container) startCall(l call) {
	switch {
	case c.live != nil && (c.stopping || len(c.removes) > 0):
		l.reply <- answer{err: refuse("conflict", "container %s is being stopped", c.name())}
		return
	case c.live != nil:
		l.reply <- c.answer("", nil)
		return
	}
	c.again.stop()
	c.streak = Streak{}
	c.state.Restarts, c.state.RestartWait, c.state.Asked, c.state.Error = 0, 0, false, ""
	warning, err := c.start(l.req.Reason)
	if err != nil {
		c.failed(err)
		l.reply <- c.answer("", err)
		return
	}
	if len(c.rec.Spec.Hooks.PostStart) == 0 {
		l.reply <- c.answer(warning, nil)
		return
	}
	run := c.live
	go func() {
		err := c.hooks(c.k.ctx, run, "post_start", c.rec.Spec.Hooks.PostStart)
		a := c.answer(warning, err)
		l.reply <- a
	}()
}

// failed records that the container could not be started.
func (c *container) failed(err error) {
	c.state.Error, c.state.PID = err.Error(), 0
	if c.state.Status != engine.Created {
		c.state.Status = engine.Exited
	}
	if c.state.Status == engine.Exited || c.state.ExitCode == 0 {
		c.state.ExitCode = 128
	}
	_ = c.save(true)
	c.settle(nil)
}

// start brings the container up: its place on the network, its files, its
// output, its process. On an error nothing of it is left.
func (c *container) start(reason string) (warning string, err error) {
	c.k.starts <- struct{}{}
	defer func() { <-c.k.starts }()
	ctx := c.k.ctx
	err = c.connect(ctx)
	c.k.sendAway(c.id, nil) // of ports that it does not publish
	if err != nil {
		c.standDown()
		c.disconnect(ctx)
		return "", err
	}
	l := c.comeOn()
	if l == nil {
		l = &live{}
		if err := c.launch(ctx, l); err != nil {
			l.release()
			_ = c.k.o.Runtime.Clean(c.id)
			c.disconnect(ctx)
			_ = c.k.o.Keep.Drop(c.kept(""))
			return "", err
		}
	}
	c.live, c.stopping, c.killed, c.forget, c.deaf, c.ailing = l, false, false, false, false, false
	pid := l.proc.PID()
	ticks, _ := anchor.StartTicks(pid)
	c.state.Status, c.state.PID, c.state.StartTicks, c.state.BootID = engine.Running, pid, ticks, bootID()
	c.state.StartedAt, c.state.FinishedAt = time.Now().UTC(), time.Time{}
	c.state.ExitCode, c.state.OOMKilled, c.state.Error = 0, false, ""
	c.state.Endpoints, c.state.Ports = c.place.endpoints(), c.place.bound()
	c.beginHealth()
	if err := c.save(false); err != nil {
		warning = err.Error()
	}
	c.watchExit()
	c.lead()
	c.event("start", reason)
	return strings.Join(append(l.proc.Warnings(), nonEmpty(warning)...), "; "), nil
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// launch opens the log and the container's streams, puts our ends where they
// outlive this process, and starts the container's.
func (c *container) launch(ctx context.Context, l *live) error {
	launch, ours, err := c.equip(ctx, l)
	if err != nil {
		return err
	}
	l.proc, err = c.k.o.Runtime.Start(ctx, launch)
	launch.close()
	if err != nil {
		closeFiles(slices.Collect(maps.Values(ours)))
		return err
	}
	return c.follow(l, ours)
}

// close closes the container's ends of its streams.
func (l *Launch) close() { closeFiles([]*os.File{l.Stdin, l.Stdout, l.Stderr}) }

// equip gathers what a container's process begins with. Its output is pumped
// from here on; ours is what a terminal's will be pumped through.
func (c *container) equip(ctx context.Context, l *live) (launch Launch, ours map[string]*os.File, err error) {
	driver, err := journal.DriverFor(c.rec.Spec.Log.Driver, c.rec.Spec.Log.Options)
	if err != nil {
		return launch, nil, err
	}
	l.pumping, l.cancel = context.WithCancel(ctx)
	if err := c.openLog(l, driver); err != nil {
		return launch, nil, err
	}
	launch = Launch{Container: c.rec, NetNS: c.place.ns, HostMounts: c.k.hostMounts}
	if launch.Joins, err = c.joins(); err != nil {
		return launch, nil, err
	}
	if c.rec.Spec.TTY {
		ours, err = c.consolePipe()
	} else {
		ours, err = c.pipes(l, &launch)
	}
	if err == nil {
		err = c.k.o.Keep.PutAll(ours)
	}
	if err != nil {
		launch.close()
		closeFiles(slices.Collect(maps.Values(ours)))
		return launch, nil, fmt.Errorf("open streams of %s: %w", c.name(), err)
	}
	if !c.rec.Spec.TTY {
		c.pump(l, ours) // the files are the pumps' now
		ours = nil
	}
	return launch, ours, nil
}

// follow watches over a process that has just been started, and pumps what its
// terminal shows.
func (c *container) follow(l *live, ours map[string]*os.File) (err error) {
	if l.pidfd, err = openPIDFD(l.proc.PID()); err != nil {
		_ = l.proc.KillAll()
		return fmt.Errorf("watch process of %s: %w", c.name(), err)
	}
	l.since = time.Now()
	now := map[string]*os.File{c.kept("pid"): l.pidfd}
	if l.console = l.proc.Console(); l.console != nil {
		now[c.kept("console")] = l.console
		ours[c.kept("console")] = l.console
		c.pump(l, ours)
	}
	return c.k.o.Keep.PutAll(now)
}

// pipes makes a pipe for each output, and for the input when it is wanted. The
// container's ends are opened for reading and writing: so its writes never
// fail, and never raise SIGPIPE, while no keeper reads.
func (c *container) pipes(l *live, launch *Launch) (ours map[string]*os.File, err error) {
	ours = make(map[string]*os.File)
	for _, s := range streams {
		r, w, err := journal.Pipe()
		if err != nil {
			return ours, err
		}
		ours[c.kept(string(s))] = r
		both, err := reopen(w, os.O_RDWR)
		w.Close()
		if err != nil {
			return ours, err
		}
		if s == logs.Stdout {
			launch.Stdout = both
		} else {
			launch.Stderr = both
		}
	}
	if !c.rec.Spec.OpenStdin {
		return ours, nil
	}
	// Blocking, as a program expects its input: os.Pipe's ends are not.
	if launch.Stdin, l.stdin, err = journal.Pipe(); err != nil {
		return ours, err
	}
	return ours, c.k.o.Keep.Put(c.kept("stdin"), l.stdin)
}

// consolePipe makes the pipe between a terminal and the log. It lies in the fd
// store, so what was read from the terminal and not yet written survives us.
func (c *container) consolePipe() (map[string]*os.File, error) {
	r, w, err := journal.Pipe()
	if err != nil {
		return nil, err
	}
	return map[string]*os.File{c.kept("conr"): r, c.kept("conw"): w}, nil
}

// openLog opens the container's log, and sends it on where its driver says so.
func (c *container) openLog(l *live, d journal.Driver) (err error) {
	l.discard = !d.Keep
	if l.journal, err = journal.Create(c.logDir(), d.Options); err != nil || d.Forward == "" {
		return err
	}
	if c.sending != nil { // one sender goes through all runs
		return nil
	}
	label := journal.Label{ID: c.id, Name: c.name(), Project: c.rec.Project, Service: c.rec.Spec.Labels["com.docker.compose.service"]}
	ctx, cancel := context.WithCancel(c.k.ctx)
	c.sending = cancel
	go func() {
		if err := d.Send(ctx, c.logDir(), label); err != nil {
			c.k.log("container %s: %v", c.name(), err)
		}
	}()
	return nil
}

// lastWords is how long the sender of a log has for what a container said last.
const lastWords = 2 * time.Second

// hush ends the sender of a container that has ended for good.
func (c *container) hush() {
	if c.sending != nil {
		time.AfterFunc(lastWords, c.sending)
		c.sending = nil
	}
}

// pump moves the container's output into its log until it ends. The files are
// the pumps' from here on, but for the terminal's master.
func (c *container) pump(l *live, files map[string]*os.File) {
	ctx := l.pumping
	report := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			c.k.log("container %s: log of %s: %v", c.name(), what, err)
		}
	}
	for _, s := range streams {
		if r := files[c.kept(string(s))]; r != nil {
			l.pumps.Go(func() {
				defer r.Close()
				if l.discard {
					report(string(s), journal.Discard(ctx, r))
					return
				}
				report(string(s), l.journal.Pump(ctx, s, r))
			})
		}
	}
	master, r, w := files[c.kept("console")], files[c.kept("conr")], files[c.kept("conw")]
	if master != nil && r != nil && w != nil {
		l.pumps.Go(func() {
			defer r.Close()
			defer w.Close()
			report("terminal", l.journal.PumpConsole(ctx, master, r, w))
		})
	}
}

// drain waits until the pumps have taken all output, for a second at most:
// a process that left the container may hold a stream open for ever.
func (l *live) drain() {
	if l.journal != nil {
		l.journal.Hurry()
	}
	done := make(chan struct{})
	go func() {
		l.pumps.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	if l.cancel != nil {
		l.cancel()
	}
	<-done
}

// release closes what a run holds; its pumps end.
func (l *live) release() {
	if l.cancel != nil {
		l.cancel()
	}
	l.pumps.Wait()
	if l.journal != nil {
		_ = l.journal.Close()
	}
	for _, f := range []*os.File{l.pidfd, l.stdin, l.console} {
		if f != nil {
			f.Close()
		}
	}
}

func (c *container) logDir() string {
	return filepath.Join(c.k.o.Layout.Container(c.k.o.Project, c.id), "log")
}

// restart starts the container again by its policy.
func (c *container) restart() {
	c.state.Restarts++
	last := c.state.ExitCode
	if _, err := c.start("restart policy"); err != nil {
		c.k.log("container %s: restart: %v", c.name(), err)
		c.state.Error = err.Error()
		c.after(128, 0, last)
		return
	}
	c.notice("restarted, exit " + strconv.Itoa(last))
	c.event("restart", "exited with "+strconv.Itoa(last))
}

// reopen opens the same pipe anew, with a mode of its own. It blocks, as a
// program expects of its output, which os.OpenFile's would not.
func reopen(f *os.File, flags int) (*os.File, error) {
	var g *os.File
	err := withFD(f, func(fd int) error {
		n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags|unix.O_CLOEXEC, 0)
		if err == nil {
			g = os.NewFile(uintptr(n), f.Name())
		}
		return err
	})
	return g, err
}

// duplicate is a second descriptor of the same open file.
func duplicate(f *os.File) (*os.File, error) {
	var g *os.File
	err := withFD(f, func(fd int) error {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			g = os.NewFile(uintptr(n), f.Name())
		}
		return err
	})
	return g, err
}

// withFD calls f with a file's descriptor and leaves its mode as it is.
func withFD(file *os.File, f func(fd int) error) error {
	rc, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// bootID names this boot (random(4)).
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})
