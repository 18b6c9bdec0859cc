package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/systemd"
)

// A manager of units is this host's systemd or, where none runs, a fake one.
type manager struct {
	w     *World
	fake  *systemd.Fake // nil: the host's own
	scope string
}

func newManager(t *testing.T, w *World) manager {
	t.Helper()
	m := manager{w: w, scope: anchor.Unit(w.Layout(), w.Project)}
	if !anchor.Booted() {
		m.fake = systemd.Start(t)
	}
	return m
}

// made counts how often a scope was made; -1 where nobody counts.
func (m manager) made() int {
	if m.fake == nil {
		return -1
	}
	return len(m.fake.Made())
}

// stop is `systemctl stop`.
func (m manager) stop(t *testing.T) {
	t.Helper()
	if m.fake != nil {
		m.fake.Stop(m.scope)
		return
	}
	must(t, systemctl("stop", m.scope))
}

// gone wants neither unit nor slice to be left.
func (m manager) gone(t *testing.T) {
	t.Helper()
	kernel.Eventually(t, patience, "the unit's groups are gone", func() bool {
		v2, _ := filepath.Glob("/sys/fs/cgroup" + systemd.Group(m.scope))
		v1, _ := filepath.Glob("/sys/fs/cgroup/*" + systemd.Group(m.scope))
		return len(v1)+len(v2) == 0
	})
	kernel.Eventually(t, patience, "the unit is forgotten", func() bool {
		if m.fake != nil {
			return len(m.fake.Units()) == 0
		}
		return systemctl("status", m.scope) != nil
	})
}

// inside wants anchor and keeper in the unit's leaf, and every container that
// runs in a group beside it.
func (m manager) inside(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"anchor", "keeper"} {
		kernel.Eventually(t, patience, kind+" is in the unit", func() bool {
			return !slices.ContainsFunc(groupsOf(m.w.Process(kind)), func(g string) bool { return g != systemd.Group(m.scope)+"/keeper" })
		})
	}
	all, err := m.w.States()
	must(t, err)
	for name, s := range all {
		if s.State.Status == engine.Running && !slices.Contains(groupsOf(s.State.PID), systemd.Group(m.scope)+"/"+s.ID) {
			t.Errorf("%s is not in the unit, but in %q", name, groupsOf(s.State.PID))
		}
	}
}

// groupsOf are the paths of a process's groups.
func groupsOf(pid int) (paths []string) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			paths = append(paths, f[2])
		}
	}
	return paths
}

// TestSystemdHasAUnitForTheProject: where systemd runs, a project is in a scope
// of its own, whoever of davit's processes dies, and goes with it.
func TestSystemdHasAUnitForTheProject(t *testing.T) {
	w := newWorld(t, "chaosscope", "")
	m := newManager(t, w)
	for range 2 { // the second one finds nothing of the first
		w.must(t, "up", "-d")
		must(t, w.IsUp())
		m.inside(t)
		was := w.Process("keeper")
		end(t, was)
		kernel.Eventually(t, patience, "the next keeper is there", func() bool {
			now := w.Process("keeper")
			return now != 0 && now != was
		})
		w.must(t, "restart", "worker")
		m.inside(t)
		was = w.Process("anchor")
		end(t, was)
		kernel.Eventually(t, patience, "the next anchor is there", func() bool {
			now := w.Process("anchor")
			return now != 0 && now != was && w.Process("keeper") != 0
		})
		w.must(t, "restart", "worker")
		m.inside(t)
		before, many := w.lives(t), m.made()
		w.killBoth(t)
		w.must(t, "up", "-d")
		if now := w.lives(t); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Errorf("containers began anew: %v, then %v", before, now)
		}
		m.inside(t)
		if m.made() != many {
			t.Errorf("%d scopes were made while the project ran on", m.made()-many)
		}
		w.must(t, "down", "-v")
		m.gone(t)
	}
}

// TestSystemdStopsTheProject: when its unit is stopped, as it is before the host
// goes down, all containers end and none comes back by itself.
func TestSystemdStopsTheProject(t *testing.T) {
	w := newWorld(t, "chaosstop", "")
	m := newManager(t, w)
	w.must(t, "up", "-d")
	m.inside(t)
	m.stop(t)
	kernel.Eventually(t, patience, "anchor and keeper are gone", func() bool { return w.Process("anchor") == 0 && w.Process("keeper") == 0 })
	all, err := w.States()
	must(t, err)
	for name, s := range all {
		if s.State.Status != engine.Exited || !s.State.Asked {
			t.Errorf("%s is %s", name, s.State.Status)
		}
	}
	w.must(t, "up", "-d")
	must(t, w.IsUp())
	m.inside(t)
	w.must(t, "down", "-v")
	m.gone(t)
}

// TestWithoutAnAnswerFromSystemd: the project runs in groups of its own, and the
// user is told. One that takes the question and never answers costs ten seconds.
func TestWithoutAnAnswerFromSystemd(t *testing.T) {
	if anchor.Booted() {
		t.Skip("this host's systemd answers")
	}
	w := newWorld(t, "chaosmute", "")
	m := newManager(t, w)
	cases := map[string]func(){"absent": func() { must(t, os.Remove("/run/systemd/private")) }}
	if os.Getenv("DAVIT_LONG") != "" {
		cases = map[string]func(){"stuck": m.fake.Mute}
	}
	for name, befall := range cases {
		befall()
		out := w.must(t, "up", "-d")
		if !strings.Contains(out, "no unit "+m.scope) {
			t.Errorf("%s: the user is not told:\n%s", name, out)
		}
		must(t, w.IsUp())
		if !slices.Contains(groupsOf(w.Process("keeper")), "/davit/"+w.Project+"/keeper") {
			t.Errorf("%s: the keeper is in %q", name, groupsOf(w.Process("keeper")))
		}
		w.must(t, "down", "-v")
	}
}

func systemctl(args ...string) error {
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %v: %w\n%s", args, err, out)
	}
	return nil
}

// TestKillPointsInTheUnit kills whoever asks for the unit, enters it or leaves
// it, at 3 points, with DAVIT_LONG at 60: what TestKillPoints wants holds where
// systemd runs, and it has no unit in the end.
func TestKillPointsInTheUnit(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	w, err := NewWorld("chaospoint", t.TempDir())
	must(t, err)
	m := newManager(t, w)
	t.Cleanup(func() { must(t, w.Close()) })
	for _, v := range Verbs {
		for _, who := range map[string][]Victim{"up": {Anyone}, "down": {Keeper, Anchor}}[v.Name] {
			job{verb: v, victim: who, points: kernel.Often(1, 20)}.run(t, w)
		}
	}
	m.gone(t)
}
