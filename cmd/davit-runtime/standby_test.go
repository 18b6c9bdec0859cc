package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
)

// inits are the first processes of a container that have not become its program;
// those that made them, and are gone at once, are called otherwise.
func (l *lab) inits(c *engine.Container) (pids []string) {
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/davit/" + l.project + "/" + c.ID + "/cgroup.procs")
	unified, _ := filepath.Glob("/sys/fs/cgroup/davit/" + l.project + "/" + c.ID + "/cgroup.procs")
	for _, g := range append(groups, unified...) {
		b, _ := os.ReadFile(g)
		for _, pid := range strings.Fields(string(b)) {
			if name, _ := os.ReadFile("/proc/" + pid + "/comm"); string(name) == "runc:[2:INIT]\n" {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// replaced begins to stop a container that takes no notice, and has another one
// ready to take its place: that one stands by.
func (l *lab) replaced() (old, next *engine.Container, stopped chan error) {
	l.t.Helper()
	n := l.network("default")
	old = l.create("old", "trap 'until [ -e /leave ]; do sleep 0.05; done; exit 0' TERM; echo ready; while :; do sleep 0.05; done", on(n, "web"))
	l.do(wire.OpStart, old)
	l.eventually("it hears signals", func() bool { return strings.Contains(l.output(old), "ready") })
	next = l.create("next", "cat /etc/hosts; echo ran; exec sleep 1000", on(n, "web"))
	l.must(l.layout.SaveHeir(l.project, old.ID, next.ID))
	stopped = make(chan error, 1)
	go func() {
		_, err := l.call(wire.Request{Op: wire.OpStop, ID: old.ID, Forget: true})
		stopped <- err
	}()
	l.eventually("the next one stands by", func() bool { return len(l.inits(next)) > 0 })
	if s := l.state(next); s.Status != engine.Created || l.output(next) != "" {
		l.t.Errorf("standing by it is %s, and has said %q", s.Status, l.output(next))
	}
	return old, next, stopped
}

// standsDown wants nothing to be left of a container that stood by.
func (l *lab) standsDown(c *engine.Container) {
	l.t.Helper()
	if left := l.inits(c); len(left) > 0 {
		l.t.Errorf("processes %v are left", left)
	}
	if left, _ := os.ReadFile("/proc/mounts"); strings.Contains(string(left), c.ID) {
		l.t.Errorf("its root is mounted:\n%s", left)
	}
}

// let lets the old container end.
func (l *lab) let(old *engine.Container, stopped chan error) {
	l.t.Helper()
	l.must(os.WriteFile("/proc/"+strconv.Itoa(l.state(old).PID)+"/root/leave", nil, 0o644))
	l.must(<-stopped)
}

func TestTheNextContainerStandsByWhileTheOldOneEnds(t *testing.T) {
	l := newLab(t)
	old, next, stopped := l.replaced()
	was := l.inits(next)[0]
	l.let(old, stopped)
	r := l.do(wire.OpStart, next)
	if strconv.Itoa(r.State.PID) != was {
		t.Errorf("process %d runs, %s stood by", r.State.PID, was)
	}
	address, _, _ := strings.Cut(r.State.Endpoints[0].IPv4, "/")
	l.eventually("it runs, and knows where it is", func() bool {
		return strings.Contains(l.output(next), address) && strings.Contains(l.output(next), "ran")
	})
}

func TestAContainerThatStandsByIsTakenAway(t *testing.T) {
	l := newLab(t)
	old, next, stopped := l.replaced()
	l.do(wire.OpRemove, next)
	l.standsDown(next)
	l.let(old, stopped)
}

func TestAContainerWhoseFilesAreWrittenToDoesNotStandBy(t *testing.T) {
	l := newLab(t)
	old, next, stopped := l.replaced()
	l.do(wire.OpRest, next)
	l.standsDown(next)
	l.let(old, stopped)
	l.do(wire.OpStart, next)
	l.eventually("it runs", func() bool { return strings.Contains(l.output(next), "ran") })
}

func TestAContainerStandsByInVain(t *testing.T) {
	l := newLab(t)
	old, next, stopped := l.replaced()
	pid := l.inits(next)[0]
	n, err := strconv.Atoi(pid)
	l.must(err)
	l.must(unix.Kill(n, unix.SIGKILL))
	l.let(old, stopped)
	if r := l.do(wire.OpStart, next); r.State.Status != engine.Running || strconv.Itoa(r.State.PID) == pid {
		t.Errorf("state %+v", r.State)
	}
	l.eventually("it runs", func() bool { return strings.Contains(l.output(next), "ran") })
}

func TestAKilledKeepersStandbyIsSweptAway(t *testing.T) {
	l := newLab(t)
	old, next, stopped := l.replaced()
	pid, err := strconv.Atoi(l.inits(next)[0])
	l.must(err)
	l.must(unix.Kill(l.processes()["keeper"], unix.SIGKILL))
	l.eventually("what stood by is gone", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	l.must(os.WriteFile("/proc/"+strconv.Itoa(l.state(old).PID)+"/root/leave", nil, 0o644))
	if err := <-stopped; err != nil { // its keeper was killed
		l.halt(old)
	}
	if r := l.do(wire.OpStart, next); r.State.Status != engine.Running {
		t.Errorf("state %+v", r.State)
	}
}
