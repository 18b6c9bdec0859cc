package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/runtime/filter"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// As in davit-runtime: without this the main thread can end up in a dead
// container's mount namespace.
func init() {
	if os.Getenv("DAVIT_TEST_UNLOCKED") == "" {
		goruntime.LockOSThread()
	}
}

// TestMain lets the test binary stand in for davit-runtime, and runs every
// test twice, each time in a mount namespace of its own: on the machine's own
// cgroups, and with /sys/fs/cgroup replaced by a cgroup2 mount.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "init":
			filter.Adopt()
			libcontainer.Init()
		case "filter":
			os.Exit(filter.Main())
		case "exec":
			os.Exit(ExecMain(os.Args[2:]))
		case "step":
			os.Exit(StepMain(os.Getenv("STEP_RUN"), nil))
		case "probe":
			os.Exit(probeMain())
		}
	}
	mode := os.Getenv("DAVIT_TEST_CGROUPS")
	switch {
	case os.Geteuid() != 0:
		fmt.Println("runtime: needs root; skipped")
		os.Exit(0)
	case mode == "":
		os.Exit(runTwice())
	case mode == "v2":
		if err := unix.Mount("none", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
			fmt.Println("mount cgroup2:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if base != "" {
		os.RemoveAll(base)
	}
	os.Exit(code)
}

func runTwice() int {
	modes := []string{"own", "v2"}
	if cgroups.IsCgroup2UnifiedMode() {
		modes = modes[:1]
	}
	code := 0
	for _, mode := range modes {
		if only := os.Getenv("DAVIT_TEST_ONLY_CGROUPS"); only != "" && only != mode {
			continue
		}
		fmt.Println("cgroups:", mode)
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), "DAVIT_TEST_CGROUPS="+mode)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if err := cmd.Run(); err != nil {
			code = 1
		}
	}
	return code
}

// A rig is a store with one busybox layer, and what its containers need.
type rig struct {
	t      testing.TB
	layout store.Layout
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, layout: store.Layout{Data: dir + "/data", Run: dir + "/run"}}
	t.Cleanup(func() { // before dir goes: filters are compiled into it beside the tests
		if s := filters(r.layout); s != nil {
			s.Wait()
		}
	})
	for _, d := range []string{r.layout.Data, r.layout.Run} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(r.layout.Layer("base"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(baseLayer(t), r.layout.LayerFS("base")); err != nil {
		t.Fatal(err)
	}
	r.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n")
	r.file("etc/group", "root:x:0:\nann:x:1000:\nwheel:x:10:root,ann\nvideo:x:44:ann\n")
	return r
}

// base is the busybox layer that all tests of this process stand on.
var base string

func baseLayer(t testing.TB) string {
	t.Helper()
	if base != "" {
		return base
	}
	dir, err := os.MkdirTemp("", "davit-runtime-test-")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "etc", "tmp", "root", "home/ann", "run", "var"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Join(dir, "tmp"), 0o1777)
	if out, err := exec.Command("cp", "/bin/busybox", dir+"/bin/busybox").CombinedOutput(); err != nil {
		t.Fatalf("copy busybox: %v %s", err, out)
	}
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, applet := range strings.Fields(string(list)) {
		_ = os.Symlink("busybox", filepath.Join(dir, "bin", applet))
	}
	base = dir
	return dir
}

// file puts a file into the rig's second layer.
func (r *rig) file(name, text string) {
	r.t.Helper()
	p := filepath.Join(r.layout.LayerFS("files"), name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// container records a container that runs a shell script.
func (r *rig) container(script string, tweak ...func(*engine.Container)) *engine.Container {
	r.t.Helper()
	var id [32]byte
	rand.Read(id[:])
	c := &engine.Container{
		ID: hex.EncodeToString(id[:]), Project: project, Created: time.Now(),
		Layers: []string{"base", "files"},
		Spec:   engine.Spec{Entrypoint: []string{"/bin/sh", "-c", script}, NetworkMode: "none"},
	}
	c.Name = "rt-" + c.ID[:8]
	for _, f := range tweak {
		f(c)
	}
	if err := os.MkdirAll(r.layout.Container(c.Project, c.ID), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := r.layout.SaveContainer(c); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := Clean(r.layout, c.Project, c.ID); err != nil {
			r.t.Error(err)
		}
	})
	return c
}

// quiet is a container that ends at once, made on a goroutine of the test.
func (r *rig) quiet() *engine.Container {
	return r.container("", func(c *engine.Container) { c.Spec.Entrypoint = []string{"/bin/true"} })
}

func (r *rig) launch(c *engine.Container) Launch {
	return Launch{Layout: r.layout, Container: c}
}

// run starts a container, waits for its end, destroys it and returns its exit
// code and what it wrote.
func (r *rig) run(c *engine.Container, tweak ...func(*Launch)) (int, string) {
	r.t.Helper()
	code, out, err := r.try(c, tweak...)
	if err != nil {
		r.t.Fatal(err)
	}
	return code, out
}

func (r *rig) try(c *engine.Container, tweak ...func(*Launch)) (int, string, error) {
	r.t.Helper()
	pr, pw, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	defer pr.Close()
	l := r.launch(c)
	l.Stdout, l.Stderr = pw, pw
	for _, f := range tweak {
		f(&l)
	}
	p, err := Start(context.Background(), l)
	pw.Close()
	if err != nil {
		return 0, "", err
	}
	text := make(chan string)
	go func() {
		b, _ := io.ReadAll(pr)
		text <- string(b)
	}()
	code := r.wait(p)
	out := <-text
	if err := p.Destroy(); err != nil {
		r.t.Error(err)
	}
	return code, out, nil
}

// wait sees a process end, looks how without reaping, and reaps it.
func (r *rig) wait(p *Process) int {
	r.t.Helper()
	r.ends(p)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PIDFD, int(p.PIDFD.Fd()), &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		r.t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(p.PID, &ws, unix.WNOHANG, nil); err != nil {
		r.t.Fatal("the exit status was gone before it was reaped: ", err)
	}
	if err := p.Reap(); err != nil {
		r.t.Error(err)
	}
	r.t.Cleanup(func() { p.PIDFD.Close() })
	return exitStatus(syscall.WaitStatus(ws))
}

func (r *rig) ends(p *Process) {
	r.t.Helper()
	fds := []unix.PollFd{{Fd: int32(p.PIDFD.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 120_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			_ = p.KillAll()
			r.t.Fatal("the container does not end: ", err)
		}
		return
	}
}

// eventually polls for a condition, with a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	kernel.Eventually(t, time.Minute, what, ok)
}
