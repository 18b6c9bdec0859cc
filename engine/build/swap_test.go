package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine/build"
)

// Two steps share a cache mount. One swaps a directory in it for a link to a
// directory of the host, and back, without pause; the other has mount points
// below that name, which must be made for it. Nothing is ever made outside
// (CVE-2024-23651, buildah's CVE-2024-11218).
func TestSwappedMountPointsAreNotFollowed(t *testing.T) {
	h := newCorpus(t)
	canary := t.TempDir()
	if err := os.WriteFile(canary+"/host-file", []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(command string) (*reading, error) {
		_, said, err := h.build(t, build.Request{Context: t.TempDir(), Inline: "FROM busybox\nRUN --network=none --mount=type=cache,target=/c,id=swapped " + command + "\n"})
		return said, err
	}
	swapper := make(chan error, 1)
	go func() {
		_, err := run("cd /c; touch ready; until test -e /c/stop; do mkdir -p d; mv d e; ln -s " + canary + " d; rm d; mv e d; done")
		swapper <- err
	}()
	if _, err := run("n=0; until test -e /c/ready; do sleep 0.01; n=$((n+1)); test $n -lt 30000; done"); err != nil {
		t.Fatal(err)
	}
	mounted, tries := 0, rounds(500)/2
	if os.Getenv("DAVIT_LONG") != "" {
		tries = 500
	}
	for n := range tries {
		how := []string{
			"--mount=type=tmpfs,target=/c/d/made-tmpfs",
			"--mount=type=bind,from=busybox,source=/etc,target=/c/d/made-bind",
			"--mount=type=cache,id=other,target=/c/d/made-cache",
			"--mount=type=bind,from=busybox,source=/etc/passwd,target=/c/d/made-file",
		}[n%4]
		said, err := run(fmt.Sprintf("%s echo %d; cat /c/d/host-file 2>/dev/null || true", how, n))
		if err == nil {
			mounted++
		}
		if strings.Contains(said.logs.String(), "host\n") {
			t.Fatalf("try %d, %s: the step read a file of the host", n, how)
		}
		if left, err := os.ReadDir(canary); err != nil || len(left) != 1 {
			t.Fatalf("try %d, %s: the host's directory has %v, %v", n, how, left, err)
		}
	}
	if _, err := run("touch /c/stop"); err != nil {
		t.Error(err)
	}
	if err := <-swapper; err != nil {
		t.Errorf("the swapping step: %v", err)
	}
	t.Logf("%d of %d mounts were made", mounted, tries)
}

// A context of very many files is built from, and one that .dockerignore keeps
// out is not even read. The builder is a process of its own, whose memory is
// known in the end.
func TestManyFiles(t *testing.T) {
	h := newCorpus(t)
	dir, count := t.TempDir(), rounds(200_000)
	if os.Getenv("DAVIT_LONG") != "" {
		count = 1_000_000
	}
	if err := os.WriteFile(dir+"/Dockerfile", []byte("FROM busybox\nCOPY many /many\nRUN --network=none ls /many | wc -l > /directories; ls /many/7 | wc -l > /files\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const each = 500
	for i := range count {
		sub := fmt.Sprintf("%s/many/%d", dir, i/each)
		if i%each == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", sub, i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	built := func() (layers []string, rss int64) {
		t.Helper()
		cmd := h.command(t, dir)
		var peak strings.Builder
		cmd.Stderr = &peak
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if _, err := fmt.Sscanf(peak.String(), "VmHWM: %d kB", &rss); err != nil {
			t.Fatalf("peak %q: %v", &peak, err)
		}
		return strings.Fields(string(out)), rss << 10
	}
	layers, rss := built()
	root := h.merged(t, layers)
	for name, want := range map[string]int{"directories": count / each, "files": each} {
		if b, err := os.ReadFile(filepath.Join(root, name)); strings.TrimSpace(string(b)) != fmt.Sprint(want) {
			t.Errorf("%s: %q, %v; want %d", name, b, err, want)
		}
	}
	t.Logf("%d files: %d MiB of memory", count, rss>>20)
	if most := int64(128<<20 + count*2048); rss > most {
		t.Errorf("%d files took %d bytes of memory, more than %d", count, rss, most)
	}
	if err := os.WriteFile(dir+"/.dockerignore", []byte("many\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/Dockerfile", []byte("FROM busybox\nCOPY . /ctx\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	layers, rss = built()
	if _, err := os.Stat(h.merged(t, layers) + "/ctx/many"); err == nil {
		t.Error("what is ignored is in the image")
	}
	if most := int64(128 << 20); rss > most {
		t.Errorf("%d ignored files took %d bytes of memory, more than %d", count, rss, most)
	}
}
