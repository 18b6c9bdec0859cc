package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
)

// newWorld is NewWorld for a test of its own, which leaves nothing behind.
func newWorld(t *testing.T, project, compose string) *World {
	t.Helper()
	kernel.NeedRoot(t)
	w, err := NewWorld(project, t.TempDir())
	must(t, err)
	if compose != "" {
		must(t, w.Compose(compose))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("keeper.log:\n%s", w.Log())
		} else if left, err := w.Residue(); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		must(t, w.Close())
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *World) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.Davit(args...)
	must(t, err)
	return out
}

// deadline waits until ok has no objection.
func deadline(t *testing.T, ok func() error) {
	t.Helper()
	var err error
	for over := time.Now().Add(patience); time.Now().Before(over); time.Sleep(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Error(err)
}

// lives tells every container's process, by name.
func (w *World) lives(t *testing.T) map[string]string {
	t.Helper()
	all, err := w.States()
	must(t, err)
	out := map[string]string{}
	for name, s := range all {
		out[name] = fmt.Sprint(s.ID, s.State.PID, s.State.StartTicks, s.State.Status)
	}
	return out
}

// install copies the executables to a directory, as a new build of them.
func (w *World) install(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"davit", "davit-runtime"} {
		b, err := os.ReadFile(filepath.Join(w.bin, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o755))
	}
	return dir
}

// TestUpgradeOfARunningProject puts a new build in the old one's place, time
// and again, under a project that answers all the while.
func TestUpgradeOfARunningProject(t *testing.T) {
	w := newWorld(t, "chaosupgrade", "")
	w.must(t, "up", "-d")
	before := w.lives(t)
	for range 3 {
		w.bin = w.install(t)
		w.must(t, "up", "-d")
		for _, kind := range []string{"anchor", "keeper"} {
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", w.Process(kind)))
			must(t, err)
			if want := filepath.Join(w.bin, "davit-runtime"); exe != want {
				t.Errorf("the %s runs %s, want %s", kind, exe, want)
			}
		}
		must(t, w.IsUp())
		if now := w.lives(t); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Fatalf("containers were\n%v\nand are\n%v", before, now)
		}
	}
	// A build that does not run changes nothing.
	old := w.bin
	w.bin = w.install(t)
	must(t, os.WriteFile(filepath.Join(w.bin, "davit-runtime"), []byte("#!/bin/false\n"), 0o755))
	w.must(t, "up", "-d")
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", w.Process("keeper"))); exe != filepath.Join(old, "davit-runtime") {
		t.Errorf("the keeper runs %s", exe)
	}
	w.bin = old
	w.must(t, "exec", "-T", "web", "true")
	w.must(t, "restart", "worker")
	w.must(t, "down", "-v")
}
