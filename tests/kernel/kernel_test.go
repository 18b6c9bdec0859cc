package kernel_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
)

func TestAnIsolatedTestSeesItsOwnNetworkOnly(t *testing.T) {
	kernel.NeedRoot(t)
	if err := kernel.Isolate(); err != nil {
		t.Fatal(err)
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if len(links) == 0 || links[0].Name != "lo" || links[0].Flags&net.FlagUp == 0 {
		t.Errorf("links %v: want lo, up", links)
	}
	for _, l := range links {
		if l.Flags&net.FlagUp != 0 && l.Name != "lo" {
			t.Errorf("link %s is up", l.Name)
		}
	}
}

func TestUnifiedCgroupsAreWhatTheTestAndItsProcessesSee(t *testing.T) {
	kernel.NeedRoot(t)
	if err := kernel.UnifiedCgroups(); err != nil {
		t.Fatal(err)
	}
	out, err := kernel.Run(t.Context(), "/", nil, "cat", "/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		t.Fatalf("cat: %v: %s", err, out)
	}
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(table), " /sys/fs/cgroup rw") || !strings.Contains(string(table), "- cgroup2 cgroup2") {
		t.Errorf("no cgroup2 at /sys/fs/cgroup in\n%s", table)
	}
}

// A process is held when none of its threads goes on, and goes on afterwards.
func TestHeldProcessesDoNothing(t *testing.T) {
	cmd := exec.Command("sh", "-c", "while :; do echo; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	read := func() bool { n, err := out.Read(make([]byte, 1<<20)); return n > 0 && err == nil }
	if !read() {
		t.Fatal("it writes nothing")
	}
	pipe := out.(*os.File)
	kernel.Held(t, cmd.Process.Pid, func() {
		for err == nil { // what it wrote before
			if err = pipe.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err == nil {
				_, err = pipe.Read(make([]byte, 1<<20))
			}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if kernel.Asleep(cmd.Process.Pid) {
			t.Error("a process that is held counts as one that waits for something")
		}
	})
	if err := pipe.SetReadDeadline(time.Time{}); err != nil || !read() {
		t.Errorf("it does not go on: %v", err)
	}
	kernel.Eventually(t, time.Minute, "it waits for a reader", func() bool { return kernel.Asleep(cmd.Process.Pid) })
}
