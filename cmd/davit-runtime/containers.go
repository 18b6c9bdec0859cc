package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper"
	"github.com/davit-run/davit/engine/runtime"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/volume"
)

// containers is engine/runtime as a keeper wants it, for one project.
type containers struct {
	layout  store.Layout
	project string
	volumes *volume.Store
	place   *place

	mu      sync.Mutex
	running map[string]*runtime.Process
}

func (c *containers) know(id string, p *runtime.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = make(map[string]*runtime.Process)
	}
	if p == nil {
		delete(c.running, id)
	} else {
		c.running[id] = p
	}
}

// Start runs a container.
func (c *containers) Start(ctx context.Context, l keeper.Launch) (keeper.Process, error) {
	if err := c.mountVolumes(l.Container); err != nil {
		return nil, err
	}
	group, err := c.place.wait(ctx)
	if err != nil {
		return nil, err
	}
	p, err := runtime.Start(ctx, runtime.Launch{
		Layout: c.layout, Container: l.Container, NetNS: l.NetNS, HostMounts: hostMounts(l), CgroupParent: group,
		Stdin: l.Stdin, Stdout: l.Stdout, Stderr: l.Stderr, Joins: l.Joins, Word: l.Word,
		ImageLayers: l.Container.MountLayers,
		CopyUp:      func(root string) error { return c.copyUp(ctx, l.Container, root) },
	})
	if err != nil {
		return nil, err
	}
	c.know(l.Container.ID, p)
	p.Warnings = append(p.Warnings, c.place.news()...)
	return &process{p, c}, nil
}

// hostMounts is the host's mount namespace where a bind hands mounts on to the
// host, which one found in the project's own cannot.
func hostMounts(l keeper.Launch) *os.File {
	for _, m := range l.Container.Spec.Mounts {
		if m.Type == engine.MountBind && strings.Contains(m.Propagation, "shared") {
			return l.HostMounts
		}
	}
	return nil
}

// copyUp fills the container's empty volumes from its image.
func (c *containers) copyUp(ctx context.Context, rec *engine.Container, root string) error {
	if len(rec.Volumes) == 0 {
		return nil
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer r.Close()
	for target, name := range rec.Volumes {
		if keepsEmpty(rec, target) {
			continue
		}
		if err := c.volumes.CopyUp(ctx, r, target, name); err != nil {
			return err
		}
	}
	return nil
}

func keepsEmpty(rec *engine.Container, target string) bool {
	for _, m := range rec.Spec.Mounts {
		if m.Target == target {
			return m.NoCopy || m.Subpath != ""
		}
	}
	return false
}

// mountVolumes mounts what volumes of the local driver with options name, in
// the project's mount namespace, where it stays until the project is down.
func (c *containers) mountVolumes(rec *engine.Container) error {
	for _, name := range rec.Volumes {
		v, err := c.volumes.Get(name)
		if errors.Is(err, volume.ErrNotFound) {
			continue // starting says so, with the mount's own words
		}
		if err != nil {
			return err
		}
		if !volume.Mounted(v) {
			continue
		}
		target := c.layout.VolumeData(name)
		if mounted(target) {
			continue
		}
		if err := volume.Mount(v, target); err != nil {
			return err
		}
	}
	return nil
}

// mounted tells whether something is mounted at a directory: it is on another
// mount than its parent (statx(2), STATX_ATTR_MOUNT_ROOT).
func mounted(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// Adopt finds a running container.
func (c *containers) Adopt(id string) (keeper.Process, error) {
	p, err := runtime.Adopt(c.layout, c.project, id)
	if err != nil {
		return nil, err
	}
	c.know(id, p)
	return &process{p, c}, nil
}

// Clean destroys what is left of a container.
func (c *containers) Clean(id string) error {
	c.know(id, nil)
	return runtime.Clean(c.layout, c.project, id)
}

// OOMKilled asks the cgroup of a container whose keeper did not see its end.
func (c *containers) OOMKilled(id string) bool {
	killed, err := runtime.OOMKilled(c.layout, c.project, id)
	return err == nil && killed
}

// Left names the containers that the runtime's state knows.
func (c *containers) Left() ([]string, error) {
	names, err := store.Names(c.layout.RuntimeState(c.project))
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	var ids []string
	for _, n := range names {
		id := strings.TrimSuffix(n, ".cgroup")
		if len(id) == 64 && filepath.Base(id) == id && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Exec runs a command in a container until it ends or ctx does.
func (c *containers) Exec(ctx context.Context, rec *engine.Container, e engine.Exec, limit int) (int, []byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer r.Close()
	e.TTY = false
	child, err := runtime.Exec(ctx, runtime.ExecLaunch{Layout: c.layout, Project: c.project, ID: rec.ID, Exec: e, Stdout: w, Stderr: w})
	w.Close()
	if err != nil {
		return runtime.ExitCode(err), nil, err
	}
	out := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(r, int64(limit)))
		_, _ = io.Copy(io.Discard, r)
		out <- b
	}()
	stop := context.AfterFunc(ctx, func() { c.killSession(rec.ID, child.PID) })
	code, err := child.Wait()
	if !stop() { // what it left in the background goes too
		c.killSession(rec.ID, child.PID)
	}
	// Something it left in the background may hold its output open: what was
	// said until here is taken, whoever has read how much of it by now.
	_ = r.SetReadDeadline(time.Unix(1, 0))
	said := bytes.NewBuffer(<-out)
	runtime.Drain(r, said)
	return code, said.Bytes()[:min(said.Len(), limit)], err
}

// killSession kills a process of a container and everything in its session: a
// shell's pipeline is more than its first process.
func (c *containers) killSession(id string, pid int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	c.mu.Lock()
	p := c.running[id]
	c.mu.Unlock()
	if p == nil {
		return
	}
	pids, err := p.Processes()
	if err != nil {
		return
	}
	for _, other := range pids {
		if sid, err := unix.Getsid(other); err == nil && sid == pid {
			_ = unix.Kill(other, unix.SIGKILL)
		}
	}
}

// A process is a runtime.Process as a keeper wants it.
type process struct {
	p    *runtime.Process
	many *containers
}

func (p *process) PID() int                   { return p.p.PID }
func (p *process) Console() *os.File          { return p.p.Console }
func (p *process) Warnings() []string         { return p.p.Warnings }
func (p *process) Signal(s unix.Signal) error { return p.p.Signal(s) }
func (p *process) KillAll() error             { return p.p.KillAll() }
func (p *process) Pause() error               { return p.p.Pause() }
func (p *process) Resume() error              { return p.p.Resume() }
func (p *process) Reap() error                { return p.p.Reap() }

// Stats is what the container has used.
func (p *process) Stats() (engine.Stats, error) { return p.p.Stats() }

// OOMKilled is no where nobody knows.
func (p *process) OOMKilled() bool {
	killed, err := p.p.OOMKilled()
	return err == nil && killed
}

// Destroy takes away what is left, and closes the process's descriptors.
func (p *process) Destroy() error {
	p.many.know(p.p.ID(), nil)
	err := p.p.Destroy()
	p.p.PIDFD.Close()
	return err
}

// anonymous removes anonymous volumes.
type anonymous struct {
	layout store.Layout
	store  *volume.Store
}

// RemoveAnonymous removes a volume that is anonymous and nobody else's.
func (a *anonymous) RemoveAnonymous(name, except string) error {
	v, err := a.store.Get(name)
	if errors.Is(err, volume.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !v.Anonymous {
		return nil
	}
	err = a.store.Remove(context.Background(), name, func(name string) string { return a.user(name, v.Project, except) })
	if errors.Is(err, volume.ErrNotFound) || errors.Is(err, volume.ErrInUse) {
		return nil
	}
	return err
}

// user names a container, other than except, that has the volume.
func (a *anonymous) user(name, project, except string) string {
	ids, err := store.Names(a.layout.Containers(project))
	if err != nil {
		return err.Error()
	}
	for _, id := range ids {
		if id == except {
			continue
		}
		c, err := a.layout.LoadContainer(project, id)
		if err != nil {
			continue
		}
		for _, v := range c.Volumes {
			if v == name {
				return c.Name
			}
		}
	}
	return ""
}
