package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

// A Go program's reloader in a container hears of edits on the host, in place
// and atomic ones, through the bind mount; no watch is at work. (Those of node
// and Python are in the story bind-inotify.)
func TestGoReloaderSeesTheHostsEdits(t *testing.T) {
	h := newHost(t, "reload", `
services:
  web:
    image: busybox
    command: /bin/reload /src sh /src/main.sh
    stop_signal: SIGKILL
    volumes: ["./src:/src", "./reload:/bin/reload:ro"]
`)
	build := exec.Command("go", "build", "-o", filepath.Join(h.dir, "reload"), "./reload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the reloader: %v\n%s", err, out)
	}
	src := filepath.Join(h.dir, "src")
	check(t, os.Mkdir(src, 0o755))
	program := func(word string) []byte { return []byte("echo said " + word + "\n") }
	check(t, os.WriteFile(filepath.Join(src, "main.sh"), program("one"), 0o644))
	h.davit("up", "-d")
	t.Cleanup(func() { h.davit("down", "-t", "0") })
	says := func(word string) {
		t.Helper()
		kernel.Eventually(t, patience, "the program says "+word, func() bool {
			return strings.Contains(h.davit("logs", "--no-log-prefix", "web"), "said "+word)
		})
	}
	says("one")
	check(t, os.WriteFile(filepath.Join(src, "main.sh"), program("two"), 0o644))
	says("two")
	check(t, os.WriteFile(filepath.Join(src, "new"), program("three"), 0o644))
	check(t, os.Rename(filepath.Join(src, "new"), filepath.Join(src, "main.sh")))
	says("three")
}
