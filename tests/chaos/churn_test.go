package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// holdings are what anchor and keeper hold.
func (w *World) holdings() string {
	var b strings.Builder
	for _, kind := range []string{"anchor", "keeper"} {
		pid := w.Process(kind)
		mounts, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		fmt.Fprintf(&b, "%s: %s, %d mounts; ", kind, descriptors(pid), strings.Count(string(mounts), "\n"))
	}
	links, _ := os.ReadDir("/proc/thread-self/net/dev_snmp6")
	fmt.Fprintf(&b, "%d cgroups, %d links", w.groups(), len(links))
	return b.String()
}

// groups counts the control groups of the project, in all hierarchies. What
// files are in them depends on which controllers others have switched on.
func (w *World) groups() (n int) {
	for _, pattern := range []string{"/sys/fs/cgroup/davit/", "/sys/fs/cgroup/*/davit/"} {
		inside, _ := filepath.Glob(pattern + w.Project + "/*")
		for _, path := range inside {
			if st, err := os.Lstat(path); err == nil && st.IsDir() {
				n++
			}
		}
	}
	return n
}

// descriptors counts what a process has open, by kind.
func descriptors(pid int) string {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, _ := os.ReadDir(dir)
	kinds := map[string]int{}
	for _, fd := range fds {
		kind, _ := os.Readlink(dir + fd.Name())
		if i := strings.Index(kind, ":["); i > 0 && !strings.HasPrefix(kind, "anon_inode") {
			kind = kind[:i] // pipe, socket, net, mnt
		} else if strings.HasPrefix(kind, "/") {
			kind = "file"
		}
		kinds[kind]++
	}
	return fmt.Sprintf("%d descriptors %v", len(fds), kinds)
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
	if was == 0 {
		t.Fatal("there is no keeper")
	}
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

// rests waits until anchor and keeper have nothing to do any more.
func (w *World) rests(t *testing.T) {
	t.Helper()
	kernel.Eventually(t, patience, "anchor and keeper rest", func() bool {
		for range 10 { // a look takes its time, and they hand each other work
			if !kernel.Asleep(w.Process("anchor")) || !kernel.Asleep(w.Process("keeper")) {
				return false
			}
			time.Sleep(time.Millisecond)
		}
		return true
	})
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
	// Who is healthy is not asked again: a question is work under way.
	w := newWorld(t, "chaoschurn", strings.Replace(Reference, "interval: 1s,", "interval: 1h,", 1))
	w.must(t, "up", "-d")
	w.goroutines(t) // from here on each keeper has adopted what runs
	w.churn(t, warm)
	w.rests(t)
	few := w.goroutines(t)
	w.churn(t, warm)
	w.rests(t)
	before, was := w.holdings(), threads(w.Process("keeper"))
	memory := resident(t, w.Process("keeper")) + resident(t, w.Process("anchor"))
	w.churn(t, n)
	w.rests(t)
	deadline(t, func() error {
		if now := w.holdings(); now != before {
			return fmt.Errorf("before: %s\nafter:  %s", before, now)
		}
		return nil
	})
	most := threads(w.Process("keeper"))
	if most > was+8 {
		t.Errorf("the keeper had %d threads and has %d", was, most)
	}
	now := resident(t, w.Process("keeper")) + resident(t, w.Process("anchor"))
	if now > memory+5<<10 {
		t.Errorf("anchor and keeper had %d KiB and have %d", memory, now)
	}
	many := w.goroutines(t)
	if many > few+3 { // a timer or two may be on its way
		t.Errorf("the keeper had %d goroutines after %d rounds and has %d after %d", few, warm, many, warm+n)
	}
	t.Logf("%d rounds: %s; %d KiB, then %d; %d goroutines, then %d; %d threads, then %d", n, before, memory, now, few, many, was, most)
	w.must(t, "down", "-v")
}
