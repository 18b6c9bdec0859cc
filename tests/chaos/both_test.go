package chaos

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/tests/kernel"
)

// counting is the reference project with a worker whose every line is known.
var counting = strings.Replace(Reference, "while :; do echo tick; sleep 0.2; done",
	"i=0; while :; do echo tick $$i; i=$$((i+1)); usleep 20000; done", 1)

// TestAnchorAndKeeperKilledTogether: nobody is left that knows the project but
// its records. Containers run on, the next command takes them over with their
// output, their health and their ports, and learns how they end. 3 rounds, with
// DAVIT_LONG 50.
func TestAnchorAndKeeperKilledTogether(t *testing.T) {
	rounds := kernel.Often(3, 50)
	w := newWorld(t, "chaosboth", counting)
	w.must(t, "up", "-d")
	before := w.lives(t)
	for i := range rounds {
		w.killBoth(t)
		must(t, w.answers()) // the kernel serves the port
		switch i % 3 {
		case 0:
			w.must(t, "up", "-d")
		case 1:
			w.must(t, "doctor", "--repair")
		case 2:
			w.must(t, "restart", "--no-deps", "db")
			before = w.lives(t)
		}
		must(t, w.IsUp())
		if now := w.lives(t); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Fatalf("round %d: containers were\n%v\nand are\n%v", i, before, now)
		}
		w.resolves(t)
	}
	all, err := w.States()
	must(t, err)
	end(t, all[w.Project+"-web-1"].State.PID)
	w.stateBecomes(t, "web-1", func(s engine.State) bool { return s.Status == engine.Exited })
	now, err := w.States()
	must(t, err)
	if s := now[w.Project+"-web-1"].State; s.ExitCode != 137 {
		t.Errorf("web: %+v", s)
	}
	w.must(t, "stop", "worker")
	wantCounted(t, w.must(t, "logs", "--no-log-prefix", "worker"))
	w.must(t, "down", "-v")
}

// killBoth kills anchor and keeper, and waits until they are gone.
func (w *World) killBoth(t *testing.T) {
	t.Helper()
	a, k := w.Process("anchor"), w.Process("keeper")
	end(t, a)
	end(t, k)
	// A keeper that is in the middle of becoming the anchor has started one.
	kernel.Eventually(t, patience, "both are gone", func() bool {
		for _, kind := range []string{"anchor", "keeper"} {
			for _, pid := range w.processes(kind) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		return w.count("anchor")+w.count("keeper") == 0
	})
}

// resolves wants a name to be answered, however long that takes.
func (w *World) resolves(t *testing.T) {
	t.Helper()
	w.must(t, "exec", "-T", "web", "nslookup", "-timeout=60", "-retry=60", "db")
}

// end kills a process; 0 would be this test and all its relatives (kill(2)).
func end(t *testing.T, pid int) {
	t.Helper()
	if pid <= 0 {
		t.Fatalf("there is no process to kill")
	}
	must(t, unix.Kill(pid, unix.SIGKILL))
}

func (w *World) stateBecomes(t *testing.T, name string, ok func(engine.State) bool) {
	t.Helper()
	kernel.Eventually(t, patience, name+" has come to it", func() bool {
		all, err := w.States()
		must(t, err)
		return ok(all[w.Project+"-"+name].State)
	})
}

// wantCounted wants "tick 0", "tick 1" and so on: none lost, doubled or torn.
func wantCounted(t *testing.T, out string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(out) {
		if strings.TrimSpace(line) != fmt.Sprintf("tick %d", n) {
			t.Fatalf("line %d is %q", n, line)
		}
		n++
	}
	if n < 10 {
		t.Errorf("only %d lines", n)
	}
}
