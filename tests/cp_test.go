package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
)

// swapping is a project whose container swaps what copies go through, as fast
// as it can: a directory, a link to the host's canaries, a link that leaves by
// "..", and back.
const swapping = `
services:
  app:
    image: busybox
    stop_signal: SIGKILL
    command:
      - sh
      - -c
      - |
        mkdir -p /play/real /keep; echo inside >/play/real/file; cd /play
        while :; do
          ln -sfn real at; ln -sfn CANARIES at; ln -sfn ../../../../../../../..CANARIES at
          rm -f at; mkdir at; echo inside >at/file; rm -rf at
          ln -s CANARIES/file f; rm f; echo inside >f; rm f
        done
`

// TestCopiesStayInsideTheContainer copies in and out through links that the
// container swaps all the while (CVE-2018-15664, CVE-2026-41568): what lies
// outside is never written, and never comes out.
func TestCopiesStayInsideTheContainer(t *testing.T) {
	canaries := t.TempDir()
	check(t, os.WriteFile(filepath.Join(canaries, "file"), []byte("outside\n"), 0o600))
	h := newHost(t, "swapping", strings.ReplaceAll(swapping, "CANARIES", canaries))
	check(t, os.WriteFile(filepath.Join(h.dir, "file"), []byte("from the host\n"), 0o644))
	h.davit("up", "-d")
	defer h.davit("down")
	ours := func(args ...string) { // may fail: the path is not there half of the time
		_, _ = kernel.Run(context.Background(), h.dir, []string{"DAVIT_ROOT=" + h.root},
			filepath.Join(h.bin, "davit"), append([]string{"-p", h.project, "--progress", "quiet", "cp"}, args...)...)
	}
	came := 0
	rounds, deadline := kernel.Tenth(1000)/4, time.Now().Add(patience)
	for i := 0; i < rounds || came == 0 && time.Now().Before(deadline); i++ { // it may begin late
		ours("file", "app:/play/at/file")
		ours("file", "app:/play/at/new"+fmt.Sprint(i))
		for _, from := range []string{"app:/play/at/file", "app:/play/f"} {
			out := filepath.Join(h.dir, fmt.Sprintf("out%d-%s", i, filepath.Base(from)))
			ours("-L", from, out)
			if st, err := os.Lstat(out); err != nil {
				continue
			} else if !st.Mode().IsRegular() { // following it here would lead to the canaries
				t.Fatalf("round %d: %s gave a %s though links were to be followed", i, from, st.Mode().Type())
			}
			b, err := os.ReadFile(out)
			check(t, err)
			came++
			if strings.Contains(string(b), "outside") {
				t.Fatalf("round %d: %s gave a file of the host", i, from)
			}
		}
	}
	if came == 0 {
		t.Error("nothing was ever copied: the race was not run")
	}
	left, err := os.ReadDir(canaries)
	check(t, err)
	b, err := os.ReadFile(filepath.Join(canaries, "file"))
	check(t, err)
	if len(left) != 1 || string(b) != "outside\n" {
		t.Errorf("outside the container: %d files, %q", len(left), b)
	}
}

// TestCopiesOutStayBelowTheirTarget copies a tree onto one in which a link
// leads elsewhere: what comes out of a container follows no link of this host
// that lies below the place it is copied to.
func TestCopiesOutStayBelowTheirTarget(t *testing.T) {
	h := newHost(t, "outwards", "services: {app: {image: busybox, stop_signal: SIGKILL, command: sh -c 'mkdir -p /tree/link; echo evil >/tree/link/file; sleep 600'}}\n")
	canaries := t.TempDir()
	check(t, os.WriteFile(filepath.Join(canaries, "file"), []byte("outside\n"), 0o600))
	check(t, os.MkdirAll(filepath.Join(h.dir, "tree"), 0o755))
	check(t, os.Symlink(canaries, filepath.Join(h.dir, "tree", "link")))
	h.davit("up", "-d")
	defer h.davit("down")
	kernel.Eventually(t, patience, "the container's tree", func() bool {
		_, err := kernel.Run(context.Background(), h.dir, []string{"DAVIT_ROOT=" + h.root},
			filepath.Join(h.bin, "davit"), "-p", h.project, "exec", "-T", "app", "test", "-e", "/tree/link/file")
		return err == nil
	})
	_, _ = kernel.Run(context.Background(), h.dir, []string{"DAVIT_ROOT=" + h.root},
		filepath.Join(h.bin, "davit"), "-p", h.project, "cp", "app:/tree", ".")
	b, err := os.ReadFile(filepath.Join(canaries, "file"))
	check(t, err)
	if string(b) != "outside\n" {
		t.Errorf("a copy out of a container wrote %q through a link", b)
	}
}
