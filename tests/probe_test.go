package tests

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

var updateProbe = flag.Bool("update", false, "rewrite the verdicts of the escape probe")

// TestEscapeProbe runs the probe through davit in the modes that services can
// ask for, and holds its verdicts against golden ones.
func TestEscapeProbe(t *testing.T) {
	kernel.NeedRoot(t)
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "probe"), "./probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	root, err := kernel.Root()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kernel.Scrub(root) })
	if err := load(t.Context(), root, "busybox"); err != nil {
		t.Fatal(err)
	}
	const services = `
name: probe
services:
  default: &it {image: busybox, network_mode: none, volumes: ["./probe:/probe:ro"]}
  privileged: {<<: *it, privileged: true}
  read_only: {<<: *it, read_only: true, tmpfs: [/tmp]}
  tight: {<<: *it, x-security: tight}
`
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(services), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"default", "privileged", "read_only", "tight"} {
		t.Run(mode, func(t *testing.T) { probe(t, bin, root, dir, mode) })
	}
}

// ownCaps are the capabilities that this process could hand on.
func ownCaps(t *testing.T) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nCapBnd:")
	word, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(word)
}

func probe(t *testing.T, bin, root, dir, mode string) {
	args := []string{"run", "--rm", "-T", mode, "/probe"}
	if mode == "privileged" {
		args = append(args, ownCaps(t))
	}
	cmd := exec.Command(filepath.Join(bin, "davit"), args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "DAVIT_ROOT="+root)
	var said bytes.Buffer
	cmd.Stderr = &said
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("probe: %v\n%s", err, said.String())
	}
	golden := filepath.Join("testdata/probe", mode+".txt")
	if *updateProbe {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	have := strings.Split(string(got), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(have) || have[i] != line {
			t.Fatalf("line %d: want %q in\n%s", i+1, line, got)
		}
	}
}
