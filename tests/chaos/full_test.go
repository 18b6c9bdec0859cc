package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/tests/kernel"
)

// TestKeeperOnAFullDisk fills the disk under a running project, then kills its keeper
// and a container: what runs goes on, the restart policy is followed, and down
// works on the full disk. With room again, the next up does.
func TestKeeperOnAFullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		inodes  bool
		options []string
	}{
		"no blocks are left": {false, []string{"-m", "0"}},
		"no inodes are left": {true, []string{"-N", "4096"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.inodes && os.Getenv("DAVIT_LONG") == "" {
				t.Skip("DAVIT_LONG is not set")
			}
			w, _ := newDiskWorld(t, "chaosfull", 160<<20, c.options...)
			must(t, w.Compose(counting))
			w.must(t, "up", "-d")
			free, err := w.disk.Fill(c.inodes)
			must(t, err)
			before := w.liveOn(t)
			if !c.inodes { // an overlay is mounted with a directory of its own
				w.runsAgain(t, before[w.Project+"-worker-1"])
			}
			w.must(t, "down", "-v")
			left, err := w.Residue()
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
			must(t, free())
			w.must(t, "up", "-d")
			must(t, w.becomesUp())
			w.must(t, "down", "-v")
		})
	}
}

// liveOn wants a project on a full disk to survive its keeper. It returns the
// containers as they were.
func (w *World) liveOn(t *testing.T) (before map[string]engine.Snapshot) {
	t.Helper()
	before, err := w.States()
	must(t, err)
	was := w.Process("keeper")
	end(t, was)
	kernel.Eventually(t, patience, "the next keeper is there", func() bool {
		now := w.Process("keeper")
		return now != 0 && now != was
	})
	w.settled()
	for name, s := range before {
		if !runs(s.State) {
			t.Errorf("%s died with the keeper", name)
		}
	}
	must(t, w.answers())
	w.must(t, "exec", "-T", "web", "true")
	return before
}

// runsAgain ends the worker and wants its policy to be followed.
func (w *World) runsAgain(t *testing.T, worker engine.Snapshot) {
	t.Helper()
	end(t, worker.State.PID)
	kernel.Eventually(t, patience, "worker runs again", func() bool {
		group := "davit/" + w.Project + "/" + worker.ID + "/cgroup.procs"
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + group)
		for _, g := range append(groups, "/sys/fs/cgroup/"+group) {
			b, err := os.ReadFile(g)
			if pids := strings.Fields(string(b)); err == nil && len(pids) > 0 && !slices.Contains(pids, fmt.Sprint(worker.State.PID)) {
				return true
			}
		}
		return false
	})
}
