package runtime

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// A stepRun is one `davit-runtime step`, started as a builder starts it.
type stepRun struct {
	*rig
	dir string
	own *os.File
	cmd *exec.Cmd
	out bytes.Buffer
	// flags are the namespaces it is started with.
	flags uintptr
}

func (r *stepRun) id() string {
	return "build-" + filepath.Base(filepath.Dir(r.dir)) + filepath.Base(r.dir)
}

func (r *stepRun) begin(s engine.RunStep) {
	r.t.Helper()
	if s.Upper == "" {
		s.Upper = r.dir + "/fs"
	}
	s.ID, s.Work = r.id(), r.dir+"/work"
	s.Lower = layerDirs(r.layout, []string{"base", "files"})
	if s.Cwd == "" {
		s.Cwd = "/"
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	child := os.NewFile(uintptr(fds[1]), "child")
	defer child.Close()
	r.own = os.NewFile(uintptr(fds[0]), "own")
	r.t.Cleanup(func() { r.own.Close() })
	text, _ := json.Marshal(s)
	r.own.Write(text)
	unix.Shutdown(fds[0], unix.SHUT_WR)
	r.cmd = exec.Command("/proc/self/exe", "step")
	r.cmd.Stdout, r.cmd.Stderr, r.cmd.ExtraFiles = &r.out, &r.out, []*os.File{child}
	if r.flags != 0 {
		r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: r.flags}
	}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// step runs a step to its end and returns its result and output.
func (r *rig) step(s engine.RunStep) (engine.StepResult, string) {
	r.t.Helper()
	run := &stepRun{rig: r, dir: r.t.TempDir()}
	run.begin(s)
	answer, _ := io.ReadAll(run.own)
	_ = run.cmd.Wait()
	var res engine.StepResult
	if err := json.Unmarshal(answer, &res); err != nil {
		r.t.Fatalf("answer %q: %v: %s", answer, err, run.out.String())
	}
	if left, _ := os.ReadDir(run.dir); len(left) > 2 {
		r.t.Errorf("left beside the layer: %v", left)
	}
	return res, run.out.String()
}

func TestAStepsWritesAreItsLayer(t *testing.T) {
	r := newRig(t)
	upper := t.TempDir() + "/fs"
	cache, ctx := t.TempDir(), t.TempDir()
	os.WriteFile(ctx+"/src", []byte("source"), 0o644)
	os.Mkdir(ctx+"/sub", 0o755)
	os.WriteFile(ctx+"/sub/one", []byte("one"), 0o644)
	res, out := r.step(engine.RunStep{
		Upper: upper, Network: "none", Args: []string{"/bin/sh", "-c", `
set -e; cat /src/src /one; cat /run/secrets/s; stat -c ' %a' /run/secrets/s
echo cached >/cache/f; echo built >/new; echo gone >/tmpfs/f; hostname; id -u; pwd; exit 3`},
		Env: []string{"PATH=/bin", "A=b"}, Cwd: "/home/ann",
		Mounts: []engine.StepMount{
			{Type: "bind", Target: "/src", Lower: []string{ctx}, ReadOnly: true},
			{Type: "bind", Target: "/one", Lower: []string{ctx}, Source: "/sub/one", ReadOnly: true},
			{Type: "bind", Target: "/cache", Source: cache},
			{Type: "tmpfs", Target: "/tmpfs", Size: 1 << 20},
			{Type: "file", Target: "/run/secrets/s", Content: []byte("hush")},
		},
	})
	if res.Code != 3 || res.Error != "" || out != "sourceonehush 400\nbuildkitsandbox\n0\n/home/ann\n" {
		t.Errorf("%+v: %q", res, out)
	}
	if b, _ := os.ReadFile(cache + "/f"); string(b) != "cached\n" {
		t.Errorf("cache: %q", b)
	}
	var found []string
	filepath.WalkDir(upper, func(p string, e os.DirEntry, err error) error {
		found = append(found, strings.TrimPrefix(p, upper))
		return nil
	})
	if got := strings.Join(found, " "); got != " /new" {
		t.Errorf("the layer holds %q", got)
	}
}

func TestAStepsFilterIsCompiledOnce(t *testing.T) {
	run := t.TempDir()
	t.Setenv("STEP_RUN", run)
	r := newRig(t)
	step := engine.RunStep{Network: "none", Args: []string{"/bin/sh", "-c", "grep ^Seccomp: /proc/self/status"}}
	var first []byte
	for n := range 2 {
		if res, out := r.step(step); res.Code != 0 || out != "Seccomp:\t2\n" {
			t.Fatalf("%+v: %q", res, out)
		}
		b, err := os.ReadFile(run + "/filters")
		if err != nil || n > 0 && !bytes.Equal(b, first) {
			t.Fatalf("after step %d: %d bytes, %v; %d before", n+1, len(b), err, len(first))
		}
		first = b
	}
}

func TestAStepsFailures(t *testing.T) {
	r := newRig(t)
	if res, out := r.step(engine.RunStep{Network: "none", Args: []string{"nosuch"}}); res.Code != 127 || !strings.Contains(out, "nosuch") {
		t.Errorf("%+v: %q", res, out)
	}
	if res, _ := r.step(engine.RunStep{Args: []string{"true"}}); res.Code != exitStepFailed || res.Error == "" {
		t.Errorf("a step without a prepared network: %+v", res)
	}
	if res, _ := r.step(engine.RunStep{Network: "none", Args: []string{"/bin/true"}, User: "nobody-here"}); res.Code != exitStepFailed || !strings.Contains(res.Error, "no such user") {
		t.Errorf("%+v", res)
	}
}

// A pid namespace alone would have the step mount its /proc over the host's.
func TestAStepNeverTouchesTheHostsProc(t *testing.T) {
	r := newRig(t)
	run := &stepRun{rig: r, dir: t.TempDir(), flags: unix.CLONE_NEWPID}
	run.begin(engine.RunStep{Network: "none", Args: []string{"/bin/true"}})
	answer, _ := io.ReadAll(run.own)
	_ = run.cmd.Wait()
	if self, err := os.Readlink("/proc/self"); err != nil || self != itoa(uint32(os.Getpid())) {
		t.Fatalf("/proc is another one now: %s %v", self, err)
	}
	if !bytes.Contains(answer, []byte("mount namespace")) {
		t.Errorf("answer %q", answer)
	}
}

func TestAStepHasAContainersWalls(t *testing.T) {
	r := newRig(t)
	c := &engine.Container{}
	withProbe(c)
	s := engine.RunStep{Network: "none", Args: []string{"/probe", "probe"}}
	for _, m := range c.Spec.Mounts {
		s.Mounts = append(s.Mounts, engine.StepMount{Type: "bind", Source: m.Source, Target: m.Target, ReadOnly: true})
	}
	res, out := r.step(s)
	if res.Code != 0 {
		t.Fatalf("%+v: %s", res, out)
	}
	got := verdicts(out)
	for k, want := range map[string]string{
		"fds": "0,1,2", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapEff": defaultCaps,
		"Seccomp": "2", "unshare.user": "EPERM", "mount": "EPERM", "open.disk": "EPERM",
	} {
		if got[k] != want {
			t.Errorf("%s: %q, want %q", k, got[k], want)
		}
	}
	privateNamespaces(t, got)
}

func TestAKilledStepTakesItsCommandAlong(t *testing.T) {
	r := newRig(t)
	for how, end := range map[string]func(cmd *exec.Cmd, own *os.File){
		"asked to":           func(cmd *exec.Cmd, _ *os.File) { cmd.Process.Signal(syscall.SIGTERM) },
		"killed":             func(cmd *exec.Cmd, _ *os.File) { cmd.Process.Kill() },
		"its caller is gone": func(_ *exec.Cmd, own *os.File) { own.Close() },
	} {
		marker := t.TempDir()
		step := &stepRun{rig: r, dir: t.TempDir(), flags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
		step.begin(engine.RunStep{
			Network: "none", Args: []string{"/bin/sh", "-c", "echo $$ >/m/pid; sleep 1000"},
			Mounts: []engine.StepMount{{Type: "bind", Source: marker, Target: "/m"}},
		})
		eventually(t, "the command runs", func() bool { b, _ := os.ReadFile(marker + "/pid"); return len(b) > 0 })
		if !mountedSomewhere(marker) {
			t.Error("no process has the mount: this test sees nothing")
		}
		end(step.cmd, step.own)
		_ = step.cmd.Wait()
		t.Cleanup(func() {
			if err := removeCgroup(stepParent + "/" + step.id()); err != nil {
				t.Error(err)
			}
		})
		eventually(t, how+": no command runs on", func() bool { return !mountedSomewhere(marker) })
		if left, _ := filepath.Glob(step.dir + "/.step-*"); how != "killed" && len(left) != 0 {
			t.Errorf("%s: left %v", how, left)
		}
	}
}

// mountedSomewhere says whether any process sees a mount of what is at path.
func mountedSomewhere(path string) bool {
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, table := range tables {
		if b, err := os.ReadFile(table); err == nil && bytes.Contains(b, []byte(" "+path+" ")) {
			return true
		}
	}
	return false
}
