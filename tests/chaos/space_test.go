package chaos

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// A fullWorld keeps its data on a small disk of its own, and has a container
// that runs and writes to its log.
type fullWorld struct {
	*World
	t      *testing.T
	image  string // in a registry beside it
	pid    int
	before unix.Statfs_t
}

const ticking = `
services:
  worker:
    image: busybox
    command: sh -c 'while :; do echo tick; sleep 0.2; done'
    stop_signal: SIGKILL
    network_mode: none
`

// What the pulled image and the build need of the disk, at most.
const (
	needBytes  = 20 << 20
	needInodes = 560
)

func newFullWorld(t *testing.T) *fullWorld {
	w := &fullWorld{World: newWorld(t, "chaosfull", ticking), t: t}
	must(t, kernel.OwnMounts())
	data := w.Layout().Data
	must(t, os.Rename(data, data+".old"))
	undo, err := kernel.Disk(data, 96<<20, 4000)
	if errors.Is(err, kernel.ErrNoLoop) {
		t.Skip(err)
	}
	must(t, err)
	must(t, os.RemoveAll(data+".old"))
	w.must(t, "load", "-i", w.path("busybox.tar"))
	must(t, os.MkdirAll(w.path("context/files"), 0o755))
	for i := range 100 {
		must(t, os.WriteFile(w.path(fmt.Sprintf("context/files/%d", i)), []byte("x"), 0o644))
	}
	must(t, os.WriteFile(w.path("context/big"), random(5<<20), 0o644))
	must(t, os.WriteFile(w.path("context/Dockerfile"), []byte("FROM busybox\nCOPY files /files\nRUN dd if=/dev/urandom of=/big bs=1M count=6 && "+
		"i=0; while [ $i -lt 200 ]; do echo x >/files/n$i || exit 1; i=$((i+1)); done\nCOPY big /big2\n"), 0o644))
	var closeRegistry func() error
	w.image, closeRegistry = serveImage(t)
	w.World.before, err = w.place().Take()
	must(t, err)
	t.Cleanup(func() {
		if left, err := w.Residue(); !t.Failed() && (err != nil || len(left) > 0) {
			t.Errorf("left behind: %v %v", left, err)
		}
		_, _ = w.Davit("down", "-t", "0")
		must(t, errors.Join(closeRegistry(), undo()))
		w.World.before, err = w.place().Take()
		must(t, err)
	})
	w.must(t, "up", "-d")
	all, err := w.States()
	must(t, err)
	w.pid = all[w.Project+"-worker-1"].State.PID
	must(t, unix.Statfs(data, &w.before))
	return w
}

// random are bytes that do not compress.
func random(n int) []byte {
	var seed [32]byte
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// serveImage is a registry with one image: two layers of bytes and one of many
// files. It listens in the network namespace of the goroutine.
func serveImage(t *testing.T) (ref string, closeIt func() error) {
	blobs := map[string][]byte{}
	keep := func(b []byte, kind string) map[string]any {
		sum := sha256.Sum256(b)
		d := "sha256:" + hex.EncodeToString(sum[:])
		blobs[d] = b
		return map[string]any{"mediaType": kind, "digest": d, "size": len(b)}
	}
	var layers []any
	var diffIDs []string
	for i, files := range []int{1, 300, 1} {
		var plain, packed bytes.Buffer
		w := tar.NewWriter(&plain)
		for j := range files {
			content := random(1800_000 * 3 / files)
			must(t, w.WriteHeader(&tar.Header{Name: fmt.Sprintf("layer%d/%d", i, j), Mode: 0o644, Size: int64(len(content))}))
			_, err := w.Write(content)
			must(t, err)
		}
		must(t, w.Close())
		z := gzip.NewWriter(&packed)
		_, err := z.Write(plain.Bytes())
		must(t, errors.Join(err, z.Close()))
		sum := sha256.Sum256(plain.Bytes())
		diffIDs = append(diffIDs, "sha256:"+hex.EncodeToString(sum[:]))
		layers = append(layers, keep(packed.Bytes(), "application/vnd.oci.image.layer.v1.tar+gzip"))
	}
	config, err := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	must(t, err)
	const kind = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": kind, "layers": layers,
		"config": keep(config, "application/vnd.oci.image.config.v1+json")})
	must(t, err)
	top := keep(manifest, kind)["digest"].(string)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		what := path.Base(r.URL.Path)
		if what == "1" {
			what = top
		}
		if what == top {
			rw.Header().Set("Content-Type", kind)
		}
		rw.Header().Set("Docker-Content-Digest", what)
		_, _ = rw.Write(blobs[what])
	})}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String() + "/full:1", s.Close
}

// fill leaves so many bytes and inodes of the disk; -1: as many as there are.
func (w *fullWorld) fill(bytes, inodes int64) {
	dir := filepath.Join(filepath.Dir(w.Layout().Data), "data", "ballast")
	must(w.t, os.MkdirAll(dir, 0o700))
	var st unix.Statfs_t
	must(w.t, unix.Statfs(dir, &st))
	for i := int64(0); inodes >= 0 && i < int64(st.Ffree)-inodes; i++ {
		must(w.t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
	}
	if bytes < 0 {
		return
	}
	f, err := os.Create(filepath.Join(dir, "big"))
	must(w.t, err)
	defer f.Close()
	unix.Sync() // what is still to be allocated counts as free
	must(w.t, unix.Statfs(dir, &st))
	for n := int64(st.Bavail)*st.Bsize - bytes; n > 0; n -= 64 << 10 { // what describes the extents takes space too
		if err := unix.Fallocate(int(f.Fd()), 0, 0, n); !errors.Is(err, unix.ENOSPC) {
			must(w.t, err)
			return
		}
	}
}

func (w *fullWorld) free() {
	must(w.t, os.RemoveAll(filepath.Join(w.Layout().Data, "ballast")))
}

// try runs a command on the full disk: it succeeds or says what is the matter.
func (w *fullWorld) try(args ...string) (failed bool) {
	w.t.Helper()
	out, err := w.Davit(args...)
	if err == nil {
		return false
	}
	if text := strings.ToLower(out); !strings.Contains(text, "no space left") || strings.Contains(text, "panic") || strings.Contains(text, "bomb") {
		w.t.Errorf("not a clear error: %v", err)
	}
	return true
}

// isWell says that the container runs on, its output is taken, and the disk
// has what it had.
func (w *fullWorld) isWell() {
	w.t.Helper()
	all, err := w.States()
	must(w.t, err)
	s := all[w.Project+"-worker-1"].State
	if s.PID != w.pid || !runs(s) {
		w.t.Fatalf("the container is %+v, it was pid %d", s, w.pid)
	}
	now := func() int { return strings.Count(w.must(w.t, "logs", "--no-log-prefix", "worker"), "tick") }
	n := now()
	kernel.Eventually(w.t, patience, "the container's output is taken again", func() bool { return now() > n })
}

// cleared says that nothing is left on the disk of what was tried.
func (w *fullWorld) cleared() {
	w.t.Helper()
	w.must(w.t, "system", "prune", "-f")
	w.must(w.t, "builder", "prune", "-af")
	if out := w.must(w.t, "system", "fsck"); !strings.Contains(out, "everything is as it was recorded") {
		w.t.Errorf("the check says %s", out)
	}
	deadline(w.t, func() error { // a process that is being killed holds its files until it is gone
		var st unix.Statfs_t
		unix.Sync()
		must(w.t, unix.Statfs(w.Layout().Data, &st))
		if bytes, inodes := int64(w.before.Bfree-st.Bfree)*st.Bsize, int64(w.before.Ffree)-int64(st.Ffree); bytes > 1<<20 || inodes > 20 {
			return fmt.Errorf("%d bytes and %d inodes are not free again", bytes, inodes)
		}
		return nil
	})
}

// TestPullAndBuildOnAFullDisk lets the disk run out of space or inodes at 60 points of a pull
// and a build: the error says so, what runs runs on, and once there is space
// the same command succeeds and nothing is left of the failed one.
func TestPullAndBuildOnAFullDisk(t *testing.T) {
	points := 15
	step := kernel.Often(11, 1)
	w := newFullWorld(t)
	verbs := [][]string{
		{"image", "pull", "-q", w.image},
		{"image", "build", "-q", "--no-cache", "--network", "none", "-t", "full:built", w.path("context")},
	}
	failed := 0
	for n := 0; n < 4*points; n += step {
		bytes, inodes := int64(-1), int64(-1)
		if at := int64(n / 4); n%2 == 0 {
			bytes = at * needBytes / int64(points)
		} else {
			inodes = at * needInodes / int64(points)
		}
		verb := verbs[n/2%2]
		w.fill(bytes, inodes)
		if w.try(verb...) {
			failed++
		}
		w.free()
		w.isWell()
		w.must(t, verb...)
		w.must(t, "image", "rm", "-f", w.image, "full:built")
		w.cleared()
		if t.Failed() {
			t.Fatalf("with %d bytes and %d inodes left: %v", bytes, inodes, verb)
		}
	}
	t.Logf("%d points, %d failures", (4*points+step-1)/step, failed)
	if failed == 0 {
		t.Error("the disk was never full")
	}
	w.must(t, "down")
}
