package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// ErrNotRunning means that there is no process to do this to.
var ErrNotRunning = errors.New("not running")

// A Process is the first process of a running container, and what belongs to
// it. PIDFD and Console are the caller's to close.
type Process struct {
	PID     int      // on this host
	PIDFD   *os.File // becomes readable when it has ended
	Console *os.File // the pty's master, with a TTY; nil for an adopted one
	// Warnings are what the record asks for and this host cannot give.
	Warnings []string

	container *libcontainer.Container
	cg        cgroups.Manager
	child     *libcontainer.Process // ours to reap; nil for an adopted one
	state, id string
	root      string
}

// Adopt returns the process of a container whose keeper has died. It fails
// with ErrNotRunning when the process has ended, or had not begun to run when
// the keeper died: then Clean is what is left to do.
func Adopt(l store.Layout, project, id string) (*Process, error) {
	state := l.RuntimeState(project)
	c, err := libcontainer.Load(state, id)
	if errors.Is(err, libcontainer.ErrNotExist) {
		return nil, fmt.Errorf("adopt container %s: %w", id, ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("adopt container %s: %w", id, err)
	}
	status, err := c.Status()
	if err != nil {
		return nil, fmt.Errorf("adopt container %s: %w", id, err)
	}
	if status != libcontainer.Running && status != libcontainer.Paused {
		return nil, fmt.Errorf("adopt container %s: %s: %w", id, status, ErrNotRunning)
	}
	s, err := c.State()
	if err != nil {
		return nil, fmt.Errorf("adopt container %s: %w", id, err)
	}
	p := &Process{PID: s.InitProcessPid, container: c, state: state, id: id, root: l.Rootfs(project, id)}
	if p.PIDFD, err = openPIDFD(p.PID); err != nil {
		return nil, fmt.Errorf("adopt container %s: %w", id, errors.Join(err, ErrNotRunning))
	}
	// The pid may have been given away between the look and the pidfd.
	if status, err := c.Status(); err != nil || status == libcontainer.Stopped {
		p.PIDFD.Close()
		return nil, fmt.Errorf("adopt container %s: %w", id, ErrNotRunning)
	}
	p.manage()
	return p, nil
}

// manage opens the container's cgroups, so that they can be read and frozen
// without asking libcontainer for its state.
func (p *Process) manage() {
	s, err := p.container.State()
	if err != nil {
		return
	}
	cfg := p.container.Config()
	p.cg, _ = manager.NewWithPaths(cfg.Cgroups, s.CgroupPaths)
}

// ID is the container's.
func (p *Process) ID() string { return p.id }

// Signal sends one signal to the container's first process.
func (p *Process) Signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(int(p.PIDFD.Fd()), sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNotRunning
	}
	if err == nil && sig == unix.SIGKILL {
		_ = p.thaw() // v1: a frozen process dies only once it is thawed
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// KillAll kills every process of the container, and returns when none is left
// but zombies.
func (p *Process) KillAll() error {
	err := p.Signal(unix.SIGKILL)
	if errors.Is(err, ErrNotRunning) {
		err = nil
	}
	if p.cg == nil {
		return err
	}
	cfg := p.container.Config()
	if err == nil && cfg.Namespaces.IsPrivate(configs.NEWPID) {
		return nil // its pid namespace dies with it
	}
	return errors.Join(err, killCgroup(p.cg))
}

// killTimeout bounds how long killed processes are waited for.
const killTimeout = 10 * time.Second

// killCgroup kills what is in a cgroup, at once where the kernel can
// (cgroup.kill, 5.14), until nothing is.
func killCgroup(cg cgroups.Manager) error {
	if cgroups.IsCgroup2UnifiedMode() {
		_ = os.WriteFile(filepath.Join(cg.Path(""), "cgroup.kill"), []byte("1"), 0)
	}
	deadline := time.Now().Add(killTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		pids, err := cg.GetAllPids()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || err == nil && len(pids) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list processes: %w", err)
		}
		living := 0
		for _, pid := range pids {
			if !zombie(pid) {
				living++
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		_ = cg.Freeze(cgroups.Thawed)
		if living == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes do not die", living)
		}
		time.Sleep(wait)
	}
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// freezeTimeout bounds how long it is tried to freeze a container.
const freezeTimeout = 30 * time.Second

// Pause freezes every process of the container. A process freezes only once it
// is given a CPU, and v1's freezer, as libcontainer asks it, gives up after some
// hundred milliseconds: where CPUs are wanted it is asked again.
func (p *Process) Pause() error {
	if p.cg == nil {
		return ErrNotRunning
	}
	deadline := time.Now().Add(freezeTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := p.cg.Freeze(cgroups.Frozen)
		if err == nil {
			return nil
		}
		gone := errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || zombie(p.PID)
		if gone || time.Now().After(deadline) {
			return fmt.Errorf("freeze: %w", err)
		}
		time.Sleep(wait)
	}
}

// Resume thaws them.
func (p *Process) Resume() error {
	if p.cg == nil {
		return ErrNotRunning
	}
	return p.thaw()
}

func (p *Process) thaw() error {
	if p.cg == nil {
		return nil
	}
	if err := p.cg.Freeze(cgroups.Thawed); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// Paused says whether the container is frozen.
func (p *Process) Paused() bool {
	if p.cg == nil {
		return false
	}
	s, err := p.cg.GetFreezerState()
	return err == nil && s == cgroups.Frozen
}

// OOMKilled says whether the kernel killed a process of this container for
// want of memory. Ask before Destroy. Without a memory controller nobody
// knows, and the answer is no.
func (p *Process) OOMKilled() (bool, error) {
	if p.cg == nil {
		return false, nil
	}
	n, err := p.cg.OOMKillCount()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return n > 0, err
}

// Processes lists the container's processes by their ids on this host.
func (p *Process) Processes() ([]int, error) {
	if p.cg == nil {
		return nil, nil
	}
	pids, err := p.cg.GetAllPids()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return pids, err
}

// Reap takes the zombie away, and with it the kernel's memory of how the
// process ended: call it only after that has been recorded. An adopted
// process is its subreaper's to reap.
func (p *Process) Reap() error {
	if p.child == nil {
		return nil
	}
	_, err := reap(p.child)
	if errors.Is(err, unix.ECHILD) {
		return nil
	}
	return err
}

// reap waits for the end of a process that libcontainer has started, and takes
// it off the process table. The os.Process behind it holds a pidfd, which only
// its own Wait closes: one reaped past it stays open until memory is collected.
func reap(p *libcontainer.Process) (syscall.WaitStatus, error) {
	state, err := p.Wait()
	if state == nil {
		return 0, fmt.Errorf("wait for process: %w", err)
	}
	return state.Sys().(syscall.WaitStatus), nil
}

// Destroy takes the ended container's cgroup and runtime state away. What it
// wrote stays in its upper directory.
func (p *Process) Destroy() error {
	cgroup, _ := os.ReadFile(intentPath(p.state, p.id))
	return wipe(p.state, p.id, p.root, string(cgroup))
}
