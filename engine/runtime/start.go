package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	// Device rules and the C half of a container's init are linked by name.
	_ "github.com/opencontainers/cgroups/devices"
	_ "github.com/opencontainers/runc/libcontainer/nsenter"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
	"github.com/davit-run/davit/engine/runtime/filter"
	_ "github.com/davit-run/davit/engine/runtime/pid1" // what initPath shows becomes it
	"github.com/davit-run/davit/engine/store"
)

// A Launch is everything that the start of one container needs.
type Launch struct {
	Layout    store.Layout
	Container *engine.Container

	// NetNS is the network namespace to join, prepared by the caller; nil is
	// the host's or, with network mode none, a fresh one.
	NetNS *os.File

	// Stdin, Stdout and Stderr are the container's ends; nil is /dev/null, and
	// all are ignored with a TTY. The caller closes its copies.
	Stdin, Stdout, Stderr *os.File
	Width, Height         uint16 // of the terminal, when known

	// Word is waited for when the process stands ready, before its own program
	// begins; an error from it ends the start. Nil: there is nothing to wait for.
	Word func(ctx context.Context) error

	// CopyUp is called once the container's root stands, to fill its volumes
	// from the image. It must not keep anything open below root.
	CopyUp func(root string) error

	// HostMounts is the host's mount namespace, in which bind sources are
	// opened; nil is the caller's own.
	HostMounts *os.File

	// CgroupParent is the path below which the container's cgroup is made,
	// from the root of the hierarchies; empty: /davit/PROJECT. A record's own
	// CgroupParent comes first.
	CgroupParent string

	// Binds replaces sources, by target, such as /etc/hosts; an empty source
	// leaves the mount out.
	Binds map[string]string

	// ImageLayers are the layers of mounted images, lowest first, by target.
	ImageLayers map[string][]string

	// Joins are the init processes of other containers, by id, for pid and ipc
	// modes container:ID.
	Joins map[string]int
}

// joined returns the process behind a mode such as container:ID.
func (l *Launch) joined(mode string) (pid int, ok bool) {
	id, ok := strings.CutPrefix(mode, "container:")
	if !ok {
		return 0, false
	}
	pid, ok = l.Joins[id]
	return pid, ok
}

func (l *Launch) joins() map[configs.NamespaceType]string {
	s := l.Container.Spec.Security
	out := map[configs.NamespaceType]string{}
	for kind, mode := range map[configs.NamespaceType]string{configs.NEWPID: s.PID, configs.NEWIPC: s.IPC} {
		if pid, ok := l.joined(mode); ok {
			out[kind] = fmt.Sprintf("/proc/%d/ns/%s", pid, configs.NsName(kind))
		}
	}
	return out
}

// Start runs a container: it mounts its root and sources in the caller's mount
// namespace, creates the process behind its walls, detaches those mounts and
// lets it go. Its caller becomes the parent of the container's first process,
// which stays a zombie until Process.Reap. When Start fails, nothing is left.
func Start(ctx context.Context, l Launch) (_ *Process, err error) {
	c := l.Container
	cg := cgroupPath(l.CgroupParent, c)
	st := &starter{
		state: l.Layout.RuntimeState(c.Project), id: c.ID, cgroup: cg,
		root: l.Layout.Rootfs(c.Project, c.ID), filters: filters(l.Layout), word: l.Word,
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start container %s: %w", c.Name, err), st.undo())
		}
	}()
	if err := st.begin(); err != nil {
		return nil, err
	}
	base, err := scaffold(l.Layout)
	if err != nil {
		return nil, err
	}
	over := written(l.Layout, c)
	over.lower = append([]string{base}, layerDirs(l.Layout, c.Layers)...)
	over.volatile = c.AutoRemove
	over.warn = func(what string) { st.warnings = append(st.warnings, what) }
	if err := st.mountRoot(over); err != nil {
		return nil, err
	}
	if l.CopyUp != nil {
		if err := l.CopyUp(st.root); err != nil {
			return nil, fmt.Errorf("fill volumes: %w", err)
		}
	}
	binds, err := (&sources{l: l, c: c, stage: st.stage}).gather()
	if err != nil {
		return nil, err
	}
	place := bundle.Place{
		NetNS: fdPath(l.NetNS), HostNet: l.NetNS == nil && c.Spec.NetworkMode != "none",
		Join: l.joins(), Binds: binds,
	}
	if place.Init, err = initPath(l.Layout, c.Spec.Init); err != nil {
		return nil, err
	}
	return st.run(ctx, c, place, stdio{l.Stdin, l.Stdout, l.Stderr, l.Width, l.Height})
}

// fdPath names an open file so that another process of this user can open it.
func fdPath(f *os.File) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

// stdio is what becomes a process's descriptors 0, 1 and 2.
type stdio struct {
	in, out, err  *os.File
	width, height uint16
}

// give sets the streams; a nil *os.File must not become a non-nil interface.
func (s stdio) give(p *libcontainer.Process) {
	if s.in != nil {
		p.Stdin = s.in
	}
	if s.out != nil {
		p.Stdout = s.out
	}
	if s.err != nil {
		p.Stderr = s.err
	}
}

// A starter holds what one start has made so far.
type starter struct {
	state, id, cgroup string
	root              string
	stage             *stage
	gate              *gate
	container         *libcontainer.Container
	filters           *filter.Sharer        // nil: containers compile their own
	child             *libcontainer.Process // started, and not yet let go
	word              func(context.Context) error
	warnings          []string // what this host cannot give
}

var sharers sync.Map // run directory -> *filter.Sharer

// filters are the compiled ones of a run directory.
func filters(l store.Layout) *filter.Sharer {
	if s, ok := sharers.Load(l.Run); ok {
		return s.(*filter.Sharer)
	}
	s, _ := sharers.LoadOrStore(l.Run, filter.NewSharer(l.Run))
	return s.(*filter.Sharer)
}

// begin clears what an earlier start left, and records where the cgroup will
// be before it is.
func (s *starter) begin() error {
	if err := os.MkdirAll(s.state, 0o700); err != nil {
		return fmt.Errorf("make runtime state: %w", err)
	}
	if err := wipe(s.state, s.id, s.root, s.cgroup); err != nil {
		return err
	}
	if err := os.WriteFile(intentPath(s.state, s.id), []byte(s.cgroup), 0o600); err != nil {
		return fmt.Errorf("record cgroup: %w", err)
	}
	s.gate = enter()
	if err := parents(s.cgroup); err != nil {
		return err
	}
	var err error
	s.stage, err = newStage(s.root)
	return err
}

// mountRoot stands the container's root on the stage.
func (s *starter) mountRoot(o stack) error {
	if len(o.lower) == 0 {
		empty, err := s.stage.place(true)
		if err != nil {
			return err
		}
		o.lower = []string{empty}
	}
	return o.mount(s.root)
}

// run builds the bundle on the standing root and starts it.
func (s *starter) run(ctx context.Context, c *engine.Container, place bundle.Place, io stdio) (*Process, error) {
	root, err := os.OpenFile(s.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	place.Rootfs, place.Root, place.Cgroup = s.root, root, s.cgroup
	place.Hostname, _ = os.Hostname()
	b, err := bundle.Build(c, place)
	root.Close()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.container, err = libcontainer.Create(s.state, s.id, b.Config); err != nil {
		return nil, err
	}
	if s.filters != nil {
		b.Process.ExtraFiles = s.filters.Files()
		defer s.filters.Want(b.Config.Seccomp) // for those to come
	}
	p := &Process{container: s.container, child: b.Process, Warnings: append(s.warnings, b.Warnings...), state: s.state, id: s.id, root: s.root}
	if err := s.launch(ctx, b.Process, p, c.Spec.TTY, io); err != nil {
		if p.PIDFD != nil {
			p.PIDFD.Close()
		}
		if p.Console != nil {
			p.Console.Close()
		}
		return nil, err
	}
	return p, nil
}

// launch starts the process, takes its pidfd while it still waits for the
// word, strikes the stage, and gives the word.
func (s *starter) launch(ctx context.Context, lp *libcontainer.Process, p *Process, tty bool, io stdio) (err error) {
	var console *consoleSocket
	if tty {
		if console, err = newConsoleSocket(); err != nil {
			return err
		}
		defer console.close()
		lp.ConsoleSocket, lp.ConsoleWidth, lp.ConsoleHeight = console.child, io.width, io.height
	} else {
		io.give(lp)
	}
	err = s.container.Start(lp)
	s.gate.leave()
	if err != nil {
		return unwrapInit(err)
	}
	s.child = lp
	if p.PID, err = lp.Pid(); err != nil {
		return err
	}
	if p.PIDFD, err = openPIDFD(p.PID); err != nil {
		return err
	}
	if console != nil {
		if p.Console, err = console.receive(); err != nil {
			return err
		}
	}
	if err := s.stage.strike(); err != nil {
		return err
	}
	if s.word != nil {
		if err := s.word(ctx); err != nil {
			return err
		}
	}
	if err := s.container.Exec(); err != nil {
		return err
	}
	p.manage()
	return nil
}

// undo takes back what a failed start made. A process that got as far as
// waiting for the word is killed and reaped: nobody has seen it run.
func (s *starter) undo() error {
	s.gate.leave()
	if s.child != nil {
		_ = s.child.Signal(unix.SIGKILL)
		_, _ = reap(s.child)
	}
	return wipe(s.state, s.id, s.root, s.cgroup)
}

func openPIDFD(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid)), nil
}
