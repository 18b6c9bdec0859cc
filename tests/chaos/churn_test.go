package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// holdings are what anchor and keeper hold.
func (w *World) holdings() string {
	var b strings.Builder
	for _, kind := range []string{"anchor", "keeper"} {
		pid := w.Process(kind)
		fds, _ := descriptors(pid)
		mounts, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		fmt.Fprintf(&b, "%s: %d descriptors, %d mounts; ", kind, fds, strings.Count(string(mounts), "\n"))
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/davit/" + w.Project + "/*")
	links, _ := os.ReadDir("/proc/thread-self/net/dev_snmp6")
	fmt.Fprintf(&b, "%d cgroups, %d links", len(groups), len(links))
	return b.String()
}

// descriptors counts what a process has open, pidfds apart: Go keeps one for
// every process that it was asked about until the memory is collected.
func descriptors(pid int) (others, pidfds int) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		if to, _ := os.Readlink(dir + fd.Name()); to == "anon_inode:[pidfd]" {
			pidfds++
		} else {
			others++
		}
	}
	return others, pidfds
}

func threads(pid int) int {
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return len(all)
}

// resident is how much memory of its own a process has, in KiB
// (proc_pid_status(5), RssAnon).
func resident(t *testing.T, pid int) (kb int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(b), "RssAnon:")
	_, err = fmt.Sscan(rest, &kb)
	must(t, err)
	return kb
}

// goroutines has the keeper die of SIGQUIT, which tells what it was at, and
// waits for the next one.
func (w *World) goroutines(t *testing.T) int {
	t.Helper()
	was := w.Process("keeper")
	must(t, unix.Kill(was, unix.SIGQUIT))
	kernel.Eventually(t, patience, "the next keeper is there", func() bool {
		now := w.Process("keeper")
		return now != 0 && now != was
	})
	w.settled()
	b, err := os.ReadFile(w.Layout().KeeperLog(w.Project))
	must(t, err)
	return strings.Count(string(b[strings.LastIndex(string(b), "SIGQUIT: quit"):]), "\ngoroutine ")
}

// churn restarts a container and runs a command in another, n times.
func (w *World) churn(t *testing.T, n int) {
	t.Helper()
	for range n {
		w.must(t, "restart", "--no-deps", "worker")
		w.must(t, "exec", "-T", "web", "true")
	}
}

// TestChurn restarts a container and runs commands in one, many times: anchor
// and keeper hold no more than before, and nobody works on anything that is
// over. 10 of each, with DAVIT_LONG 1,000.
func TestChurn(t *testing.T) {
	const warm = 5 // what is opened once is open after so many rounds
	n := kernel.Often(10, 1000)
	w := newWorld(t, "chaoschurn", "")
	w.must(t, "up", "-d")
	w.goroutines(t) // from here on each keeper has adopted what runs
	w.churn(t, warm)
	few := w.goroutines(t)
	w.churn(t, warm)
	before, was := w.holdings(), threads(w.Process("keeper"))
	_, watched := descriptors(w.Process("keeper"))
	memory := resident(t, w.Process("keeper")) + resident(t, w.Process("anchor"))
	w.churn(t, n)
	deadline(t, func() error {
		if now := w.holdings(); now != before {
			return fmt.Errorf("before: %s\nafter:  %s", before, now)
		}
		return nil
	})
	if _, now := descriptors(w.Process("keeper")); now > watched+50 {
		t.Errorf("the keeper had %d pidfds and has %d", watched, now)
	}
	if now := threads(w.Process("keeper")); now > was+8 {
		t.Errorf("the keeper had %d threads and has %d", was, now)
	}
	now := resident(t, w.Process("keeper")) + resident(t, w.Process("anchor"))
	if now > memory+5<<10 {
		t.Errorf("anchor and keeper had %d KiB and have %d", memory, now)
	}
	many := w.goroutines(t)
	if many > few+3 { // a timer or two may be on its way
		t.Errorf("the keeper had %d goroutines after %d rounds and has %d after %d", few, warm, many, warm+n)
	}
	t.Logf("%d rounds: %s; %d KiB, then %d; %d goroutines, then %d", n, before, memory, now, few, many)
	w.must(t, "down", "-v")
}
