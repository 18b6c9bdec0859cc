package unit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/keeper/unit"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/systemd"
)

const patience = time.Minute

// real makes these tests ask the host's own systemd: in a guest.
func real() bool { return os.Getenv("DAVIT_GUEST") != "" && anchor.Booted() }

// manager is asked from here on. It says whether the slice has gone, which
// managers of other tests may have in the host's groups as well.
func manager(t *testing.T) (sliceGone func() bool) {
	kernel.NeedRoot(t)
	if real() {
		return func() bool { return gone(systemd.Group("")) }
	}
	f := systemd.Start(t)
	return func() bool { return len(f.Units()) == 0 }
}

// sleeper is a process for a unit to be made of.
func sleeper(t *testing.T) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

func ensure(t *testing.T, within time.Duration, name string, pids ...int) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return unit.Ensure(ctx, unit.Scope{Name: name, Description: "a test of davit's", PIDs: pids})
}

// in tells whether a process is in a group, in any hierarchy.
func in(t *testing.T, pid int, group string) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), ":"+group+"\n")
}

func gone(group string) bool {
	left, _ := filepath.Glob("/sys/fs/cgroup/systemd" + group)
	more, _ := filepath.Glob("/sys/fs/cgroup" + group)
	return len(left)+len(more) == 0
}

// A scope is made of a process, found again with its name, and gone with it; so
// is the slice. Then all of it works again.
func TestAScopeComesAndGoesWithItsProcesses(t *testing.T) {
	sliceGone := manager(t)
	name := fmt.Sprintf("davit-unit-%d.scope", os.Getpid())
	for range 3 {
		pid, end := sleeper(t)
		group, err := ensure(t, patience, name, pid)
		if err != nil {
			t.Fatal(err)
		}
		if group != systemd.Group(name) || !in(t, pid, group) {
			t.Fatalf("process %d is not in %s", pid, group)
		}
		other, _ := sleeper(t)
		again, err := ensure(t, patience, name, other)
		if err != nil || again != group {
			t.Fatalf("the scope that is there: %q, %v", again, err)
		}
		end()
		kernel.Eventually(t, patience, "the groups are gone", func() bool { return gone(systemd.Group(name)) && sliceGone() })
	}
}

// Two scopes are there at once, and the slice is as long as one of them.
func TestTwoScopesShareTheSlice(t *testing.T) {
	sliceGone := manager(t)
	var ends []func()
	for i := range 2 {
		pid, end := sleeper(t)
		name := fmt.Sprintf("davit-pair%d-%d.scope", i, os.Getpid())
		if group, err := ensure(t, patience, name, pid); err != nil || !in(t, pid, group) {
			t.Fatalf("%q: %v", group, err)
		}
		ends = append(ends, end)
	}
	ends[0]()
	kernel.Eventually(t, patience, "the first is gone", func() bool {
		return gone(systemd.Group(fmt.Sprintf("davit-pair0-%d.scope", os.Getpid())))
	})
	if sliceGone() {
		t.Error("the slice went with the first of two")
	}
	ends[1]()
	kernel.Eventually(t, patience, "the slice is gone", sliceGone)
}

// A systemd that takes the connection and never answers costs the time that it
// is given, and is told of.
func TestASystemdThatIsStuckIsGivenUp(t *testing.T) {
	systemd.Start(t).Mute()
	pid, _ := sleeper(t)
	if group, err := ensure(t, 100*time.Millisecond, "davit-stuck.scope", pid); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", group, err)
	}
}

// Where nobody listens, that is told at once.
func TestNoSystemdIsToldOf(t *testing.T) {
	systemd.Start(t)
	if err := os.Remove("/run/systemd/private"); err != nil {
		t.Fatal(err)
	}
	pid, _ := sleeper(t)
	if group, err := ensure(t, patience, "davit-none.scope", pid); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", group, err)
	}
}
