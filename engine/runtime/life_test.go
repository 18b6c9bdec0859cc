package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
	"github.com/davit-run/davit/tests/kernel"
)

// libcontainer's mount source thread must not be the main thread: the starter
// would live on in a dead container's mount namespace.
func TestNoThreadStaysInAContainersMountNamespace(t *testing.T) {
	r := newRig(t)
	for range 20 {
		r.run(r.container("true"))
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	leader, _ := os.Readlink("/proc/self/task/" + itoa(uint32(os.Getpid())) + "/ns/mnt")
	if leader != own {
		t.Errorf("the main thread is in %s, not %s", leader, own)
	}
	eventually(t, "no thread is in a mount namespace but "+own, func() bool { // spoilt ones end by themselves
		tasks, err := filepath.Glob("/proc/self/task/*/ns/mnt")
		if err != nil || len(tasks) == 0 {
			t.Fatal("no tasks: ", err)
		}
		return !slices.ContainsFunc(tasks, func(task string) bool {
			ns, err := os.Readlink(task)
			return err == nil && ns != own
		})
	})
}

// mounts is what is mounted below a rig, or has its layers from there. The mounts
// of other tests, which run beside these, come and go.
func (r *rig) mounts() (all []string) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if strings.Contains(line, filepath.Dir(r.layout.Data)+"/") {
			all = append(all, line)
		}
	}
	return all
}

func TestNothingIsLeftBehind(t *testing.T) {
	r := newRig(t)
	c := r.container("true", func(c *engine.Container) {
		c.Spec.Mounts = []engine.Mount{{Type: engine.MountTmpfs, Target: "/scratch"}, {Type: engine.MountBind, Source: t.TempDir(), Target: "/b"}}
	})
	r.run(c)
	_, _, err := r.try(r.container("", func(c *engine.Container) { c.Spec.Entrypoint = []string{"/nosuch"} }))
	if err == nil {
		t.Error("a command that is not there ran")
	}
	if left := r.mounts(); len(left) > 0 {
		t.Errorf("left mounts: %q", left)
	}
	left, _ := os.ReadDir(r.layout.RuntimeState(project))
	roots, _ := os.ReadDir(filepath.Dir(r.layout.Rootfs(project, "x")))
	if len(left)+len(roots) != 0 {
		t.Errorf("left in the run directory: %v %v", left, roots)
	}
	if dirs := cgroupDirs(c.ID); len(dirs) != 0 {
		t.Errorf("left cgroups: %v", dirs)
	}
}

// project is whose containers these tests make. Cgroups have no root: a run of
// these tests beside this one has another name.
var project = fmt.Sprintf("rt%d", os.Getpid())

// cgroupDirs finds the cgroups of a container in every hierarchy.
func cgroupDirs(id string) []string {
	a, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*/davit", project, id))
	b, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/davit", project, id))
	return append(a, b...)
}

func TestAKilledKeepersContainerIsAdopted(t *testing.T) {
	r := newRig(t)
	c, p := r.idle()
	if again, err := libcontainer.Load(r.layout.RuntimeState(project), c.ID); err != nil || again.ID() != c.ID {
		t.Fatal(err)
	}
	q, err := Adopt(r.layout, c.Project, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer q.PIDFD.Close()
	if q.PID != p.PID {
		t.Errorf("pid %d, want %d", q.PID, p.PID)
	}
	pids, err := q.Processes()
	if err != nil || !slices.Contains(pids, p.PID) {
		t.Errorf("processes %v: %v", pids, err)
	}
	if err := q.Pause(); err != nil {
		t.Error(err)
	}
	if err := q.Resume(); err != nil {
		t.Error(err)
	}
	if err := q.Reap(); err != nil {
		t.Errorf("an adopted process is not ours to reap: %v", err)
	}
	if _, err := Adopt(r.layout, c.Project, "nosuch"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("adopting nothing: %v", err)
	}
}

// A process of the container that left its first one's session, and shares the
// host's pid namespace, dies with KillAll too.
func TestKillAllFindsEveryProcess(t *testing.T) {
	r := newRig(t)
	c := r.container("setsid sleep 1000 & setsid sleep 1000 & wait", func(c *engine.Container) { c.Spec.Security.PID = "host" })
	p, err := Start(context.Background(), r.launch(c))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "both sleep", func() bool { pids, _ := p.Processes(); return len(pids) == 3 })
	if err := p.KillAll(); err != nil {
		t.Fatal(err)
	}
	r.wait(p)
	eventually(t, "none is left", func() bool {
		pids, _ := p.Processes()
		for _, pid := range pids {
			if !zombie(pid) {
				return false
			}
		}
		return true
	})
	if err := p.Destroy(); err != nil {
		t.Error(err)
	}
}

// Killed inside libcontainer.Create, a container can be neither loaded nor
// created: Clean knows the way out, with a process in its cgroup too.
func TestCleanAfterAKillInsideCreate(t *testing.T) {
	r := newRig(t)
	c := r.container("true")
	state := r.layout.RuntimeState(c.Project)
	if err := os.MkdirAll(filepath.Join(state, c.ID), 0o711); err != nil {
		t.Fatal(err)
	}
	if _, err := libcontainer.Load(state, c.ID); !errors.Is(err, libcontainer.ErrNotExist) {
		t.Fatalf("load: %v", err)
	}
	cg := cgroupPath("", c)
	if err := os.WriteFile(intentPath(state, c.ID), []byte(cg), 0o600); err != nil {
		t.Fatal(err)
	}
	stray := strayIn(t, cg)
	for range 2 {
		if err := Clean(r.layout, c.Project, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := stray.Wait(); err == nil {
		t.Error("the stray process lived on")
	}
	if dirs := cgroupDirs(c.ID); len(dirs) != 0 {
		t.Errorf("left cgroups: %v", dirs)
	}
	if code, _ := r.run(c); code != 0 {
		t.Errorf("code %d", code)
	}
}

// strayIn puts a process into a container's cgroup.
func strayIn(t *testing.T, cgroup string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/busybox", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	roots := []string{"/sys/fs/cgroup"}
	if os.Getenv("DAVIT_TEST_CGROUPS") != "v2" && !bundle.ReadFacts().Unified {
		roots = []string{"/sys/fs/cgroup/devices", "/sys/fs/cgroup/freezer"}
	}
	for _, root := range roots {
		if err := kernel.Group(root + cgroup); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+cgroup+"/cgroup.procs", []byte(itoa(uint32(cmd.Process.Pid))), 0); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}

// A keeper killed between the creation and the word leaves a process that
// waits for ever; nobody has seen it run, so it is not adopted but cleaned.
func TestAContainerThatWasNeverLetGoIsNotAdopted(t *testing.T) {
	r := newRig(t)
	c := r.container("true")
	st := &starter{state: r.layout.RuntimeState(project), id: c.ID, cgroup: cgroupPath("", c), root: r.layout.Rootfs(project, c.ID)}
	if err := st.begin(); err != nil {
		t.Fatal(err)
	}
	dir := r.layout.Container(project, c.ID)
	if err := st.mountRoot(stack{lower: layerDirs(r.layout, c.Layers), upper: dir + "/upper", work: dir + "/work"}); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Build(c, bundle.Place{Rootfs: st.root, Cgroup: st.cgroup})
	if err != nil {
		t.Fatal(err)
	}
	lc, err := libcontainer.Create(st.state, st.id, b.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := lc.Start(b.Process); err != nil {
		t.Fatal(err)
	}
	st.gate.leave() // as the death of a keeper does
	pid, _ := b.Process.Pid()
	if name, err := os.ReadFile("/proc/" + itoa(uint32(pid)) + "/comm"); string(name) != "runc:[2:INIT]\n" { // a keeper tells it by that
		t.Errorf("it is called %q: %v", name, err)
	}
	if _, err := Adopt(r.layout, project, c.ID); !errors.Is(err, ErrNotRunning) {
		t.Errorf("adopted: %v", err)
	}
	if err := Clean(r.layout, project, c.ID); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Signaled() {
		t.Errorf("the waiting init: %v %v", ws, err)
	}
}

func TestOOMIsNoticed(t *testing.T) {
	r := newRig(t)
	if !bundle.ReadFacts().Controllers["memory"] {
		t.Skip("no memory controller in this hierarchy")
	}
	c := r.container("head -c 200000000 /dev/zero | tail -c 200000000 >/dev/null; sleep 0.1; exit 3", func(c *engine.Container) {
		c.Spec.Resources.Memory, c.Spec.Resources.MemorySwap = 16<<20, 16<<20
	})
	p, err := Start(context.Background(), r.launch(c))
	if err != nil {
		t.Fatal(err)
	}
	r.wait(p)
	killed, err := p.OOMKilled()
	if err != nil || !killed {
		t.Errorf("killed %v: %v", killed, err)
	}
	s, err := p.Stats()
	if err != nil || s.OOMKills == 0 || s.MemoryLimit != 16<<20 {
		t.Errorf("stats %+v: %v", s, err)
	}
	if err := p.Destroy(); err != nil {
		t.Error(err)
	}
}

func TestInitReapsForwardsAndPassesTheCode(t *testing.T) {
	r := newRig(t)
	with := func(c *engine.Container) {
		entry := c.Spec.Entrypoint
		withProbe(c)
		c.Spec.Entrypoint, c.Spec.Init = entry, true
	}
	code, out := r.run(r.container("echo $$; tr '\\0' ' ' </proc/1/cmdline; sh -c 'sleep 0.01 & exit 0'; i=0; "+
		"while ps | grep -qE ' (\\[sleep\\]|sleep 0\\.01)$'; do i=$((i+1)); if [ $i = 20000 ]; then echo left; break; fi; done; exit 12", with))
	if code != 12 || strings.Contains(out, "left\n") || !strings.Contains(out, "/dev/init pid1 -- /bin/sh") || strings.HasPrefix(out, "1\n") {
		t.Errorf("code %d, out %q", code, out)
	}
	pr, pw, _ := os.Pipe()
	l := r.launch(r.container("trap 'echo caught; exit 4' USR1; echo ready; while :; do sleep 0.02; done", with))
	l.Stdout = pw
	p, err := Start(context.Background(), l)
	pw.Close()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := pr.Read(buf); err != nil || string(buf[:n]) != "ready\n" {
		t.Fatalf("%q %v", buf[:n], err)
	}
	if err := p.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(p); code != 4 {
		t.Errorf("code %d", code)
	}
	if err := p.Destroy(); err != nil {
		t.Error(err)
	}
}

func TestACancelledStartLeavesNothing(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := r.container("true")
	if _, err := Start(ctx, r.launch(c)); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
	left, _ := os.ReadDir(r.layout.RuntimeState(project))
	if len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// Parents of cgroups come and go with their containers, without one container's
// end getting in the way of another's start.
func TestContainersComeAndGoTogether(t *testing.T) {
	r := newRig(t)
	errs := make(chan error)
	comeAndGo := func() error {
		p, err := Start(context.Background(), r.launch(r.quiet()))
		if err == nil {
			err = errors.Join(p.Reap(), p.Destroy())
			p.PIDFD.Close()
		}
		return err
	}
	const side, each = 4, 4
	for range side {
		go func() {
			for range each {
				errs <- comeAndGo()
			}
		}()
	}
	for range side * each {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	// The last one gives up where containers of others start all the time; then the
	// next to go removes the groups.
	for try := 0; len(cgroupDirs("")) != 0 && try < 5; try++ {
		if err := comeAndGo(); err != nil {
			t.Error(err)
		}
	}
	if dirs := cgroupDirs(""); len(dirs) != 0 {
		t.Errorf("the project's cgroups outlived its last container: %v", dirs)
	}
}

// Descriptors of the starter never reach a container, nor does an exec's.
func TestOnlyThreeDescriptorsUnderLoad(t *testing.T) {
	r := newRig(t)
	for range 30 {
		f, err := os.Open("/etc") // open directories, as CVE-2024-21626 wants them
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	n := 10
	if os.Getenv("DAVIT_LONG") != "" {
		n = 100
	}
	c, _ := r.idle()
	for range n {
		_, out := r.run(r.container("ls /proc/self/fd"))
		_, exec, _ := r.exec(call(c, "ls", "/proc/self/fd"), "")
		if out != "0\n1\n2\n3\n" || exec != out { // 3 is ls's own
			t.Fatalf("run sees %q, exec sees %q", out, exec)
		}
	}
}
