package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// exits is a project whose containers wait for the word and then end in every
// way: with a status, by a signal, out of memory; some are to run again.
func exits(dir string, copies int) string {
	var b strings.Builder
	b.WriteString("x-common: &c {image: busybox, stop_signal: SIGKILL, network_mode: none, volumes: [\"" + dir + ":/go\"]}\nservices:\n")
	for i := range copies {
		wait := "until [ -e /go/now ]; do usleep 20000; done; "
		fmt.Fprintf(&b, "  code%d: {<<: *c, command: [sh, -c, '%s exit %d']}\n", i, wait, i%250)
		fmt.Fprintf(&b, "  again%d: {<<: *c, restart: on-failure, command: [sh, -c, '[ -e /tmp/2 ] && exec sleep 1000d; mkdir -p /tmp; touch /tmp/2; %s exit %d']}\n", i, wait, 1+i%250)
		fmt.Fprintf(&b, "  killed%d: {<<: *c, command: sleep 1000d}\n", i)
	}
	fmt.Fprintf(&b, "  hungry: {<<: *c, mem_limit: 16m, memswap_limit: 16m, command: [sh, -c, 'until [ -e /go/now ]; do usleep 20000; done; tail /dev/zero; exit 137']}\n")
	return b.String()
}

// TestExitsWhileTheKeeperIsDead ends containers while nobody looks, and wants
// all of it known afterwards: 30 of them, with DAVIT_LONG 300.
func TestExitsWhileTheKeeperIsDead(t *testing.T) {
	copies := kernel.Often(10, 100)
	dir := t.TempDir()
	w := newWorld(t, "chaosexits", exits(dir, copies))
	w.Patience = 5 * time.Minute // for three hundred containers at once
	w.must(t, "up", "-d")
	before, err := w.States()
	must(t, err)

	// The next keeper waits for the lock: until it is released there is none.
	// The anchor, which starts it, must not be faster than this test.
	var lock *store.Lock
	kernel.Held(t, w.Process("anchor"), func() {
		end(t, w.Process("keeper"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		lock, err = store.Acquire(ctx, w.Layout().KeeperLock(w.Project))
		must(t, err)
	})
	begun := time.Now()
	for i := range copies {
		must(t, unix.Kill(before[fmt.Sprintf("%s-killed%d-1", w.Project, i)].State.PID, unix.SIGKILL))
	}
	must(t, os.WriteFile(dir+"/now", nil, 0o644))
	kernel.Eventually(t, time.Minute, "the anchor has recorded how all ended", func() bool {
		for _, s := range before {
			if _, err := anchor.Recorded(w.Layout().Exits(w.Project), s.State.PID, s.State.StartTicks); err != nil {
				return false
			}
		}
		return true
	})
	over := time.Now()
	lock.Release()

	kernel.Eventually(t, 2*time.Minute, "a keeper has taken all exits in", func() bool {
		now, err := w.States()
		must(t, err)
		for name, s := range now {
			again := strings.Contains(name, "-again")
			if again && (s.State.Status != engine.Running || s.State.Restarts != 1) || !again && s.State.Status != engine.Exited {
				return false
			}
		}
		return true
	})
	now, err := w.States()
	must(t, err)
	for i := range copies {
		code := now[fmt.Sprintf("%s-code%d-1", w.Project, i)].State
		if code.ExitCode != i%250 || code.OOMKilled {
			t.Errorf("code%d: %+v", i, code)
		}
		killed := now[fmt.Sprintf("%s-killed%d-1", w.Project, i)].State
		if killed.ExitCode != 137 || killed.OOMKilled {
			t.Errorf("killed%d: %+v", i, killed)
		}
		for _, s := range []engine.State{code, killed} {
			if s.FinishedAt.Before(begun) || s.FinishedAt.After(over) {
				t.Errorf("finished at %v, want between %v and %v", s.FinishedAt, begun, over)
			}
		}
	}
	if s := now[w.Project+"-hungry-1"].State; !s.OOMKilled || s.ExitCode != 137 {
		t.Errorf("hungry: %+v", s)
	}
	w.must(t, "down")
}
