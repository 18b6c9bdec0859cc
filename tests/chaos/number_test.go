package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/tests/kernel"
)

// lastPID says which number the kernel gave last; the next process gets the
// one after what is written here (CONFIG_CHECKPOINT_RESTORE).
const lastPID = "/proc/sys/kernel/ns_last_pid"

// occupy starts a process of that number, which is free.
func occupy(t *testing.T, pid int) *exec.Cmd {
	t.Helper()
	for range 2000 { // others are given numbers, too
		must(t, os.WriteFile(lastPID, []byte(fmt.Sprint(pid-1)), 0))
		cmd := exec.Command("sleep", "1000")
		must(t, cmd.Start())
		if cmd.Process.Pid == pid {
			return cmd
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Fatalf("no process gets the number %d", pid)
	return nil
}

// TestNumbersOfDeadProcessesAreGivenToOthers kills anchor, keeper and
// containers together and has strangers get the containers' numbers: nobody
// takes them for containers, enters them, or ends them. 20 of them, with
// DAVIT_LONG 200.
func TestNumbersOfDeadProcessesAreGivenToOthers(t *testing.T) {
	rounds, copies := kernel.Often(2, 20), 10
	if _, err := os.Stat(lastPID); err != nil {
		t.Skip("this kernel does not let anybody choose a number: CONFIG_CHECKPOINT_RESTORE")
	}
	w := newWorld(t, "chaosnumber", fmt.Sprintf("services: {a: {image: busybox, command: sleep 1000d, stop_signal: SIGKILL, network_mode: none, scale: %d}}\n", copies))
	w.must(t, "up", "-d")
	right := 0
	for i := range rounds {
		before, err := w.States()
		must(t, err)
		w.killBoth(t)
		strangers := map[string]*exec.Cmd{}
		for _, s := range before {
			end(t, s.State.PID)
		}
		for name, s := range before {
			kernel.Eventually(t, patience, "it is gone", func() bool { return unix.Kill(s.State.PID, 0) != nil })
			strangers[name] = occupy(t, s.State.PID)
		}
		w.mistakenForNobody(t)
		if i%2 == 0 {
			w.must(t, "up", "-d")
		} else {
			w.must(t, "stop")
			w.must(t, "start")
		}
		now, err := w.States()
		must(t, err)
		for name, cmd := range strangers {
			s := now[name].State
			if err := unix.Kill(cmd.Process.Pid, 0); err != nil {
				t.Errorf("round %d: %s: the stranger was ended", i, name)
			} else if s.Status != engine.Running || s.PID == cmd.Process.Pid || !runs(s) {
				t.Errorf("round %d: %s: %+v", i, name, s)
			} else {
				right++
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Logf("%d of %d right", right, rounds*copies)
	w.must(t, "down")
}

// mistakenForNobody tries the commands that go to a process by its number.
func (w *World) mistakenForNobody(t *testing.T) {
	t.Helper()
	if out := w.must(t, "ps", "-a"); strings.Contains(out, "Up ") {
		t.Errorf("ps:\n%s", out)
	}
	if out, err := w.Davit("exec", "-T", "a", "true"); err == nil {
		t.Errorf("exec worked\n%s", out)
	}
	for _, args := range [][]string{{"kill", "a"}, {"pause", "a"}} {
		_, _ = w.Davit(args...) // that nothing runs is no error to all of them
	}
	if out, err := w.Davit("top"); err == nil && strings.Contains(out, "sleep 1000\n") {
		t.Errorf("top shows a stranger:\n%s", out)
	}
}
