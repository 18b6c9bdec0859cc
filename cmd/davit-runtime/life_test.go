package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
)

func TestAContainerStartsPrintsStopsAndIsRemoved(t *testing.T) {
	l := newLab(t)
	c := l.create("a", "trap 'echo bye; exit 3' TERM; echo hello; echo oops >&2; while :; do sleep 0.05; done")
	begun := time.Now()
	r := l.do(wire.OpStart, c)
	t.Logf("start: %v", time.Since(begun))
	if r.State.Status != engine.Running || r.State.PID == 0 {
		t.Fatalf("state after start: %+v", r.State)
	}
	l.eventually("it printed", func() bool { return strings.Contains(l.output(c), "hello") && strings.Contains(l.output(c), "oops") })
	patience := engine.Duration(time.Minute)
	r, err := l.call(wire.Request{Op: wire.OpStop, ID: c.ID, Timeout: &patience})
	l.must(err)
	if r.State.Status != engine.Exited || r.State.ExitCode != 3 || !r.State.Asked {
		t.Fatalf("state after stop: %+v", r.State)
	}
	out := l.output(c)
	if !strings.Contains(out, "hello\n") || !strings.Contains(out, "oops\n") || !strings.HasSuffix(out, "bye\n") {
		t.Fatalf("output %q", out)
	}
	l.do(wire.OpStart, c)
	l.do(wire.OpRemove, c)
	l.do(wire.OpRemove, c) // once more is no error
	if _, err := os.Stat(l.layout.Container(l.project, c.ID)); !os.IsNotExist(err) {
		t.Fatalf("its directory: %v", err)
	}
}

func TestAnExitIsRecordedAndTheLastWordsAreKept(t *testing.T) {
	l := newLab(t)
	c := l.create("a", "seq 1 1000; exit 7")
	l.do(wire.OpStart, c)
	r := l.do(wire.OpWait, c)
	if r.State.Status != engine.Exited || r.State.ExitCode != 7 || r.State.Asked {
		t.Fatalf("state: %+v", r.State)
	}
	if out := l.output(c); strings.Count(out, "\n") != 1000 || !strings.HasSuffix(out, "\n1000\n") {
		t.Fatalf("%d lines", strings.Count(out, "\n"))
	}
}

func TestACommandThatIsNotThereIsAnErrorAndLeavesNothing(t *testing.T) {
	l := newLab(t)
	c := l.create("a", "", func(c *engine.Container) { c.Spec.Command = []string{"/bin/nonesuch"} })
	_, err := l.call(wire.Request{Op: wire.OpStart, ID: c.ID})
	var f *wire.Failure
	if !errors.As(err, &f) || !strings.Contains(f.What, "nonesuch") {
		t.Fatalf("error %v", err)
	}
	if s := l.state(c); s.Error == "" || s.Status == engine.Running {
		t.Fatalf("state %+v", s)
	}
}

func TestAKilledKeeperLosesNothing(t *testing.T) {
	l := newLab(t)
	lines := 3000
	c := l.create("a", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000")
	short := l.create("b", "sleep 0.2; exit 42")
	pid := l.do(wire.OpStart, c).State.PID
	l.do(wire.OpStart, short)
	for range 3 {
		old := l.processes()["keeper"]
		if old == 0 {
			t.Fatal("no keeper")
		}
		l.must(unix.Kill(old, unix.SIGKILL))
		begun := time.Now()
		if _, err := l.call(wire.Request{Op: wire.OpStatus}); err != nil {
			t.Fatal(err)
		}
		t.Logf("keeper back after %v", time.Since(begun))
	}
	if r := l.do(wire.OpWait, short); r.State.ExitCode != 42 {
		t.Fatalf("the exit of one: %+v", r.State)
	}
	l.eventually("all lines are there", func() bool { return strings.Count(l.output(c), "line ") >= lines })
	if n := strings.Count(l.output(c), "line "); n != lines {
		t.Fatalf("%d lines of %d", n, lines)
	}
	if s := l.state(c); s.PID != pid || s.Status != engine.Running {
		t.Fatalf("state %+v, was pid %d", s, pid)
	}
	begun := time.Now()
	if r, err := l.call(wire.Request{Op: wire.OpKill, ID: c.ID}); err != nil {
		t.Fatal(r, err)
	}
	if r := l.do(wire.OpWait, c); r.State.ExitCode != 137 {
		t.Fatalf("after kill: %+v", r.State)
	}
	t.Logf("killed in %v", time.Since(begun))
}

func TestAKilledAnchorIsReplacedByTheKeeper(t *testing.T) {
	l := newLab(t)
	c := l.create("a", "while :; do sleep 0.1; done")
	pid := l.do(wire.OpStart, c).State.PID
	before := l.processes()
	l.must(unix.Kill(before["anchor"], unix.SIGKILL))
	l.eventually("the keeper became the anchor", func() bool {
		now := l.processes()
		return now["anchor"] == before["keeper"] && now["keeper"] != 0 && now["keeper"] != before["keeper"]
	})
	var s *engine.State
	l.must(l.keeper.Call(l.ctx, wire.Request{Op: wire.OpStatus, ID: c.ID}, func(r wire.Reply, _ []*os.File) error {
		if r.State != nil {
			s = r.State
		}
		return nil
	}))
	if s == nil || s.PID != pid || s.Status != engine.Running {
		t.Fatalf("state %+v", s)
	}
	timeout := engine.Duration(0)
	r, err := l.call(wire.Request{Op: wire.OpStop, ID: c.ID, Timeout: &timeout})
	if err != nil || r.State.ExitCode != 137 {
		t.Fatalf("stop: %+v %v", r.State, err)
	}
}

func TestTheRestartPolicyIsFollowed(t *testing.T) {
	l := newLab(t)
	c := l.create("a", "echo run; exit 5", func(c *engine.Container) {
		c.Spec.Restart = engine.RestartPolicy{Mode: "on-failure", MaxRetries: 2}
	})
	begun := time.Now()
	l.do(wire.OpStart, c)
	r := l.do(wire.OpWait, c)
	took := time.Since(begun)
	if r.State.Restarts != 2 || r.State.ExitCode != 5 || r.State.Status != engine.Exited {
		t.Fatalf("state %+v", r.State)
	}
	if n := strings.Count(l.output(c), "run\n"); n != 3 {
		t.Fatalf("ran %d times", n)
	}
	if took < 300*time.Millisecond {
		t.Fatalf("two waits of 100 and 200 ms took %v", took)
	}
	t.Logf("three runs in %v", took)
}

func TestHealth(t *testing.T) {
	l := newLab(t)
	c := l.create("a", "sleep 1000", func(c *engine.Container) {
		c.Spec.Health = &engine.HealthCheck{Test: []string{"CMD-SHELL", "echo fine"}, Interval: engine.Duration(50 * time.Millisecond)}
	})
	l.do(wire.OpStart, c)
	l.eventually("it is healthy", func() bool {
		h := l.state(c).Health
		return h != nil && h.Status == "healthy" && strings.Contains(h.Log[0].Output, "fine")
	})
	d := l.create("b", "sleep 1000", func(c *engine.Container) {
		c.Spec.Health = &engine.HealthCheck{Test: []string{"CMD-SHELL", "echo hm; sleep 77 | sleep 78"}, Retries: 2,
			Interval: engine.Duration(50 * time.Millisecond), Timeout: engine.Duration(100 * time.Millisecond)}
	})
	l.do(wire.OpStart, d)
	l.eventually("it is unhealthy", func() bool {
		h := l.state(d).Health
		return h != nil && h.Status == "unhealthy" && h.Failing >= 2 && strings.Contains(h.Log[0].Output, "exceeded timeout")
	})
}
