package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// reboot leaves of a world what a reboot leaves: its data. Processes, cgroups,
// mounts and the run directory go, the links and rules with their network
// namespace, and every state names a boot that is not this one.
func (w *World) reboot(t *testing.T) {
	t.Helper()
	kept := t.TempDir()
	must(t, os.Rename(w.Layout().Data, kept+"/data"))
	must(t, kernel.Scrub(w.Root))
	must(t, os.MkdirAll(w.Root, 0o755))
	must(t, os.Rename(kept+"/data", w.Layout().Data))
	w.dropGroups()
	must(t, kernel.Isolate())
	all, err := w.States()
	must(t, err)
	for _, s := range all {
		s.State.BootID = "another"
		must(t, w.Layout().SaveState(w.Project, s.ID, &s.State, false))
	}
}

// TestReboot stops the machine under the project: ps says what ended, the next
// up has all of it run again, the volume is as it was.
func TestReboot(t *testing.T) {
	rounds := kernel.Often(3, 50)
	w := newWorld(t, "chaosreboot", "")
	w.must(t, "up", "-d")
	must(t, os.WriteFile(filepath.Join(w.Layout().VolumeData(w.Project+"_data"), "kept"), []byte("x"), 0o600))
	before, err := w.States()
	must(t, err)
	for i := range rounds {
		w.reboot(t)
		if out := w.must(t, "ps", "-a"); strings.Contains(out, "Up ") || !strings.Contains(out, "Exited") {
			t.Fatalf("round %d: ps after a reboot:\n%s", i, out)
		}
		if i%3 == 2 {
			if _, err := w.Davit("doctor"); err == nil {
				t.Errorf("round %d: the doctor found nothing", i)
			}
			w.must(t, "doctor", "--repair")
		}
		w.must(t, "up", "-d")
		must(t, w.IsUp())
	}
	now, err := w.States()
	must(t, err)
	for name, s := range now {
		if s.ID != before[name].ID {
			t.Errorf("%s was made anew", name)
		}
	}
	if _, err := os.Stat(filepath.Join(w.Layout().VolumeData(w.Project+"_data"), "kept")); err != nil {
		t.Error(err)
	}
	w.reboot(t)
	w.must(t, "down", "-v")
	if names, err := store.Names(w.Layout().Networks()); err != nil || len(names) > 0 {
		t.Errorf("networks left: %v %v", names, err)
	}
}
