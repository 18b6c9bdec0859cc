package tests

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// canary is part of every secret below, and of nothing else: neither of a run of
// this test beside this one.
var canary = "canary-9f1c2e77-" + rand.Text()

// guarded is a project with a secret and a config of every source, in a build
// as well.
const guarded = `
services:
  app:
    build:
      context: .
      secrets: [file]
    command: [sh, -c, "wc -c /run/secrets/* /etc/app/* /of-*; sleep 600"]
    stop_signal: SIGKILL
    read_only: true
    secrets:
      - file
      - {source: environment, target: /etc/app/environment, uid: "12", mode: 0400}
      - external
    configs: [of-file, of-content, of-environment, of-store]
    healthcheck: {test: "cat /run/secrets/file >/dev/null", interval: 1s, start_period: 10s, start_interval: 100ms}
    post_start:
      - command: cat /of-file
secrets:
  file: {file: ./secret}
  environment: {environment: SECRET}
  external: {external: true, name: outside}
configs:
  of-file: {file: ./secret}
  of-content: {content: "${CONTENT}"}
  of-environment: {environment: SECRET}
  of-store: {external: true, name: outside}
`

// Contents of secrets are in the store of secrets and in the container's
// memory: in no other file of davit's, its name or attributes, in no process's
// arguments, environment or mounts, and in nothing that davit prints. (A
// config's inline content is the compose file's own, and no secret.)
func TestSecretsAreNowhereElse(t *testing.T) {
	h := newHost(t, "guarded", guarded)
	write := func(name, content string) {
		t.Helper()
		check(t, os.WriteFile(filepath.Join(h.dir, name), []byte(content), 0o600))
	}
	write("secret", canary+" of a file\n")
	write("outside", canary+" of the store\n")
	write("Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=file wc -c </run/secrets/file >/size\n")
	write(".env", "CONTENT=plain\n")
	var said strings.Builder
	davit := func(args ...string) {
		t.Helper()
		out, err := kernel.Run(context.Background(), h.dir, []string{"DAVIT_ROOT=" + h.root, "SECRET=" + canary + " of a variable"},
			filepath.Join(h.bin, "davit"), append([]string{"-p", h.project}, args...)...)
		said.WriteString(out)
		if err != nil {
			t.Fatalf("davit %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	davit("secret", "create", "outside", "outside")
	davit("secret", "--config", "create", "outside", "outside")
	davit("up", "-d", "--build", "--wait")
	defer h.davit("down")
	for _, args := range [][]string{
		{"config"}, {"config", "--hash", "*"}, {"ps", "--format", "json"}, {"inspect", "guarded-app-1"}, {"container", "inspect", "guarded-app-1"},
		{"logs"}, {"why", "app"}, {"up", "--dry-run", "--force-recreate"}, {"secret", "ls"}, {"secret", "inspect", "outside"},
		{"exec", "-T", "app", "sh", "-c", "env; mount; cat /size"}, {"run", "--rm", "-T", "app", "env"}, {"doctor"},
		{"commit", "app", "kept:1"}, {"export", "app", "-o", "app.tar"}, {"image", "save", "-o", "kept.tar", "kept:1"},
		{"up", "-d", "--force-recreate", "--wait"}, {"restart"},
	} {
		davit(args...)
	}
	if strings.Contains(said.String(), canary) {
		t.Errorf("a command printed a secret:\n%s", said.String())
	}
	kept := 0
	check(t, filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !told(t, path, d) {
			return nil // the keeper works here, too
		}
		if err != nil {
			return err
		}
		if filepath.Dir(path) != filepath.Join(h.root, "data/secrets") {
			t.Errorf("a secret is in %s", path)
		}
		kept++
		return nil
	}))
	if kept == 0 {
		t.Error("the canary was not even found where it belongs")
	}
	for _, name := range []string{"app.tar", "kept.tar"} {
		if b, err := os.ReadFile(filepath.Join(h.dir, name)); err != nil || bytes.Contains(b, []byte(canary)) {
			t.Errorf("%s: %v, or it holds a secret", name, err)
		}
	}
	processes(t)
	h.davit("down")
	h.davit("secret", "rm", "outside")
	h.davit("secret", "--config", "rm", "outside")
	check(t, filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && told(t, path, d) {
			t.Errorf("a secret is left in %s", path)
		}
		return err
	}))
}

// told says whether a file tells a secret by its name, content, attributes or
// by where it points.
func told(t *testing.T, path string, d fs.DirEntry) bool {
	t.Helper()
	var b []byte
	switch {
	case d.Type().IsRegular():
		var err error
		if b, err = os.ReadFile(path); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	case d.Type()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(path)
		b = []byte(to)
	}
	list := make([]byte, 64<<10)
	n, _ := unix.Llistxattr(path, list)
	for name := range strings.SplitSeq(string(list[:max(n, 0)]), "\x00") {
		value := make([]byte, 64<<10)
		if n, err := unix.Lgetxattr(path, name, value); err == nil {
			b = append(append(b, name...), value[:n]...)
		}
	}
	return bytes.Contains(b, []byte(canary)) || strings.Contains(path, canary)
}

// processes looks at what /proc tells everybody of every process.
func processes(t *testing.T) {
	t.Helper()
	for _, what := range []string{"cmdline", "environ", "comm", "mountinfo"} {
		files, err := filepath.Glob("/proc/[0-9]*/" + what)
		check(t, err)
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(canary)) {
				t.Errorf("a secret is in %s", f)
			}
		}
	}
}
