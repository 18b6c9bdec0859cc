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

// A unit is what systemd makes of a service or a login: a group of processes in
// every hierarchy, all of which end with it (systemd.kill(5),
// KillMode=control-group).
type unit struct{ dirs []string }

func newUnit(t *testing.T, name string) unit {
	t.Helper()
	var u unit
	tops, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil { // v2
		tops = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, top := range tops {
		if strings.Contains(top, "cpuset") {
			continue // a group without cpus takes nobody
		}
		dir := filepath.Join(filepath.Dir(top), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		u.dirs = append(u.dirs, dir)
	}
	if len(u.dirs) == 0 {
		t.Skip("no cgroups can be made here")
	}
	return u
}

// script runs what follows it within the unit.
func (u unit) script() string {
	var b strings.Builder
	for _, d := range u.dirs {
		fmt.Fprintf(&b, "echo $$ >%s/cgroup.procs; ", d)
	}
	return b.String() + `exec "$@"`
}

// end kills everybody in the unit, and wants nobody to be left.
func (u unit) end(t *testing.T) {
	t.Helper()
	for _, d := range u.dirs {
		kernel.Eventually(t, patience, d+" is empty", func() bool {
			b, err := os.ReadFile(d + "/cgroup.procs")
			must(t, err)
			for pid := range strings.FieldsSeq(string(b)) {
				var n int
				if _, err := fmt.Sscan(pid, &n); err == nil && n > 0 {
					_ = unix.Kill(n, unix.SIGKILL)
				}
			}
			return os.Remove(d) == nil
		})
	}
}

// TestTheUnitThatTypedUpMayEnd: the project is in groups of its own, so that
// neither a service manager nor a logout takes it along with whoever typed up.
func TestTheUnitThatTypedUpMayEnd(t *testing.T) {
	w := newWorld(t, "chaosunit", "")
	u := newUnit(t, w.Project+"-of-somebody")
	cmd := w.command(t.Context(), "up", "-d")
	args := append([]string{"/bin/sh", "-c", u.script(), "sh"}, cmd.Args...)
	cmd.Path, cmd.Args = "/bin/sh", args
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	anchor, keeper, before := w.Process("anchor"), w.Process("keeper"), w.lives(t)
	u.end(t)
	must(t, w.IsUp())
	if w.Process("anchor") != anchor || w.Process("keeper") != keeper || fmt.Sprint(w.lives(t)) != fmt.Sprint(before) {
		t.Errorf("something of the project ended with the unit: anchor %d, keeper %d\n%v\n%v", anchor, keeper, before, w.lives(t))
	}
	w.must(t, "restart", "worker")
	w.must(t, "down", "-v")
}
