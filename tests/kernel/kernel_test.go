package kernel_test

import (
	"net"
	"os"
	"strings"
	"testing"

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
