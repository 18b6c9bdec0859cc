package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
	"github.com/davit-run/davit/engine/store"
)

// An ExecLaunch is everything that one further process in a running container
// needs.
type ExecLaunch struct {
	Layout      store.Layout
	Project, ID string
	Exec        engine.Exec

	// Stdin, Stdout and Stderr become the process's: give it ends of pipes,
	// never a user's own files, because libcontainer changes their owner. Nil
	// is /dev/null; all are ignored with a TTY.
	Stdin, Stdout, Stderr *os.File
	Width, Height         uint16
}

// A Child is a further process in a container: a child of its starter, who
// must Wait for it.
type Child struct {
	PID     int
	PIDFD   *os.File
	Console *os.File // the pty's master, with a TTY

	process *libcontainer.Process
}

// Exec starts one further process in a running container. It needs no keeper:
// what it goes by is on disk. The error of a command that cannot be run
// carries its exit code (ExitCode).
func Exec(ctx context.Context, l ExecLaunch) (_ *Child, err error) {
	c, err := l.Layout.LoadContainer(l.Project, l.ID)
	if err != nil {
		return nil, fmt.Errorf("exec in %s: %w", l.ID, err)
	}
	lc, err := libcontainer.Load(l.Layout.RuntimeState(l.Project), l.ID)
	if errors.Is(err, libcontainer.ErrNotExist) {
		return nil, fmt.Errorf("container %s is %w", c.Name, ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("exec in %s: %w", c.Name, err)
	}
	cfg := lc.Config()
	s, err := lc.State()
	if err != nil {
		return nil, fmt.Errorf("exec in %s: %w", c.Name, err)
	}
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", s.InitProcessPid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer root.Close()
	}
	switch status, serr := lc.Status(); {
	case serr != nil:
		return nil, fmt.Errorf("exec in %s: %w", c.Name, serr)
	case status == libcontainer.Paused:
		return nil, fmt.Errorf("container %s is paused; unpause it first", c.Name)
	case status != libcontainer.Running || err != nil:
		return nil, fmt.Errorf("container %s is %w", c.Name, ErrNotRunning)
	}
	p, err := bundle.Exec(c, &cfg, root, l.Exec)
	if err != nil {
		return nil, fmt.Errorf("exec in %s: %w", c.Name, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ns := pidNamespace(s.InitProcessPid)
	child, err := l.start(lc, p)
	if err != nil {
		if ns != "" && ns != pidNamespace(os.Getpid()) {
			go reapStrays(ns)
		}
		return nil, fmt.Errorf("exec in %s: %w", c.Name, err)
	}
	return child, nil
}

func (l *ExecLaunch) start(lc *libcontainer.Container, p *libcontainer.Process) (_ *Child, err error) {
	var console *consoleSocket
	if l.Exec.TTY {
		if console, err = newConsoleSocket(); err != nil {
			return nil, err
		}
		defer console.close()
		p.ConsoleSocket, p.ConsoleWidth, p.ConsoleHeight = console.child, l.Width, l.Height
	} else {
		stdio{in: l.Stdin, out: l.Stdout, err: l.Stderr}.give(p)
	}
	p.ExtraFiles = filters(l.Layout).Files()
	if err := lc.Start(p); err != nil {
		return nil, unwrapInit(err)
	}
	child := &Child{process: p}
	if child.PID, err = p.Pid(); err == nil {
		child.PIDFD, err = openPIDFD(child.PID)
	}
	if err == nil && console != nil {
		child.Console, err = console.receive()
	}
	if err != nil && child.PID > 0 {
		_ = p.Signal(unix.SIGKILL)
		_, _ = child.Wait()
	}
	return child, err
}

// Signal sends a signal to the process.
func (c *Child) Signal(sig syscall.Signal) error {
	return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(int(c.PIDFD.Fd()), sig, nil, 0))
}

// Wait waits for the process's end, reaps it and returns its exit code, 128+n
// after signal n. The pidfd is closed; the console stays open, for what is
// still to be read from it.
func (c *Child) Wait() (int, error) {
	if c.PIDFD != nil {
		defer c.PIDFD.Close()
	}
	status, err := reap(c.process)
	return exitStatus(status), err
}

func exitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
