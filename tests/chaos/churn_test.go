package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// holdings are what anchor and keeper hold.
func (w *World) holdings() string {
	var b strings.Builder
	for _, kind := range []string{"anchor", "keeper"} {
		pid := w.Process(kind)
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		mounts, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		fmt.Fprintf(&b, "%s: %d descriptors, %d mounts; ", kind, len(fds), strings.Count(string(mounts), "\n"))
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/davit/" + w.Project + "/*")
	links, _ := os.ReadDir("/proc/thread-self/net/dev_snmp6")
	fmt.Fprintf(&b, "%d cgroups, %d links", len(groups), len(links))
	return b.String()
}

func threads(pid int) int {
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return len(all)
}

// TestChurn restarts a container and runs commands in one, many times: anchor
// and keeper hold no more than before. 15 of each, with DAVIT_LONG 1,000.
func TestChurn(t *testing.T) {
	n := 15
	if os.Getenv("DAVIT_LONG") != "" {
		n = 1000
	}
	w := newWorld(t, "chaoschurn", "")
	w.must(t, "up", "-d")
	for range 5 { // what is opened once is open
		w.must(t, "restart", "worker")
		w.must(t, "exec", "-T", "web", "true")
	}
	before, was := w.holdings(), threads(w.Process("keeper"))
	for range n {
		w.must(t, "restart", "--no-deps", "worker")
		w.must(t, "exec", "-T", "web", "true")
	}
	deadline(t, func() error {
		if now := w.holdings(); now != before {
			return fmt.Errorf("before: %s\nafter:  %s", before, now)
		}
		return nil
	})
	if now := threads(w.Process("keeper")); now > was+8 {
		t.Errorf("the keeper had %d threads and has %d", was, now)
	}
	w.must(t, "down", "-v")
}
