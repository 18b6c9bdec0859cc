package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/tests/kernel"
)

// TestYardstick kills `runc run` at as many points as a command of davit's and
// counts after `runc delete -f` what is left: what a reader may hold the rest
// against. It needs runc and DAVIT_LONG, and fails only when it cannot run.
func TestYardstick(t *testing.T) {
	kernel.NeedRoot(t)
	if _, err := exec.LookPath("runc"); err != nil || os.Getenv("DAVIT_LONG") == "" {
		t.Skip("needs runc (apt-get install runc) and DAVIT_LONG=1")
	}
	w := newWorld(t, "chaosrunc", "")
	bundle := w.runcBundle(t)
	file := w.path("profile")
	must(t, w.runc(bundle, file, nil))
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	points, err := Points(f, Verb{Name: "runc run"}, Anyone, 36, 1)
	must(t, err)
	leaks := 0
	for _, p := range points {
		_ = w.runc(bundle, w.path("trace"), []string{"-e", "trace=" + p.Syscall, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", p.Syscall, p.N)})
		_ = exec.Command("runc", "--root", w.Dir+"/runc", "delete", "-f", "yard").Run()
		if left := w.runcLeft(); left != "" {
			leaks++
			t.Logf("%s: left: %s", p, left)
			w.runcClear()
		}
	}
	t.Logf("runc run + delete -f: something was left after %d of %d points", leaks, len(points))
}

// runcBundle makes a bundle of busybox that runs true.
func (w *World) runcBundle(t *testing.T) string {
	t.Helper()
	img, err := image.Open(w.Layout()).Resolve("busybox")
	must(t, err)
	dir := t.TempDir()
	must(t, exec.Command("cp", "-a", w.Layout().LayerFS(img.Layers[0]), dir+"/rootfs").Run())
	cmd := exec.Command("runc", "spec")
	cmd.Dir = dir
	must(t, cmd.Run())
	var spec map[string]any
	b, err := os.ReadFile(dir + "/config.json")
	must(t, err)
	must(t, json.Unmarshal(b, &spec))
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = []string{"true"}, false
	delete(process, "rlimits")
	b, err = json.Marshal(spec)
	must(t, err)
	must(t, os.WriteFile(dir+"/config.json", b, 0o600))
	return dir
}

func (w *World) runc(bundle, file string, options []string) error {
	args := append([]string{"-f", "-o", file}, options...)
	args = append(args, "--", "runc", "--root", w.Dir+"/runc", "run", "-b", bundle, "yard")
	cmd := exec.Command("timeout", append([]string{"20", "strace"}, args...)...)
	return cmd.Run()
}

// runcLeft names cgroups, processes, mounts and state of the container.
func (w *World) runcLeft() string {
	var left []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/yard", "/sys/fs/cgroup/yard", w.Dir + "/runc/yard"} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	return strings.Join(left, " ")
}

func (w *World) runcClear() {
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/yard")
	for _, g := range append(groups, "/sys/fs/cgroup/yard") {
		b, _ := os.ReadFile(g + "/cgroup.procs")
		for pid := range strings.FieldsSeq(string(b)) {
			_ = exec.Command("kill", "-9", pid).Run()
		}
		_ = os.Remove(g)
	}
	_ = os.RemoveAll(w.Dir + "/runc/yard")
}
