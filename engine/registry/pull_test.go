package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
)

var stamp = time.Unix(1_600_000_000, 0)

func TestPull(t *testing.T) {
	f := newFaulty(t)
	index, layers := f.addImage(t, "v1", noise(100_000, 1), noise(50_000, 2), "small")
	l := testLayout(t)
	var mu sync.Mutex
	last := map[string]string{}
	c := client(t, l, Options{Progress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		last[p.Layer] = p.Status
	}})
	ref := f.host() + "/shop/web:v1"
	p, err := c.Pull(t.Context(), ref, "")
	if err != nil {
		t.Fatal(err)
	}
	if !p.Fresh || p.Digest != index.Digest || p.Image.Config.Cmd[0] != "/app" || p.Image.Size != 150_005 {
		t.Errorf("pulled %+v", p)
	}
	for _, d := range layers {
		if last[d.Digest] != "Pull complete" {
			t.Errorf("layer %s: %s", d.Digest, last[d.Digest])
		}
	}
	images := image.Open(l)
	for _, r := range []string{ref, f.host() + "/shop/web@" + index.Digest} {
		if img, err := images.Resolve(r); err != nil || img.ID != p.Image.ID {
			t.Errorf("%s means %s (%v)", r, img.ID, err)
		}
	}
	before := len(f.seen)
	if p, err = c.Pull(t.Context(), ref, ""); err != nil || p.Fresh {
		t.Errorf("pulled again: %+v, %v", p, err)
	}
	if n := len(f.seen) - before; n != 1 {
		t.Errorf("%d requests to see that nothing is new, want 1", n)
	}
	nothingLeft(t, l)
}

func nothingLeft(t *testing.T, l store.Layout) {
	t.Helper()
	left, err := os.ReadDir(l.Ingest())
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		t.Errorf("left in the ingest directory: %v (%v)", left, err)
	}
	locks, _ := filepath.Glob(l.Lock("layer-*"))
	if len(locks) > 0 {
		t.Errorf("locks left: %v", locks)
	}
}

func TestPullByDigestAndPlatform(t *testing.T) {
	f := newFaulty(t)
	index, _ := f.addImage(t, "v1", "small")
	c := client(t, testLayout(t), Options{})
	if _, err := c.Pull(t.Context(), f.host()+"/web@"+index.Digest, "linux/amd64"); err != nil {
		t.Error(err)
	}
	_, err := c.Pull(t.Context(), f.host()+"/web:v1", "linux/riscv64")
	if err == nil || !strings.Contains(err.Error(), "no image for linux/riscv64; there are: linux/s390x, linux/amd64") {
		t.Errorf("error is %v", err)
	}
}

// TestPullAtOnce: of 16 pulls of one image, four in each of four processes,
// one fetches it, and the others fetch nothing of it.
func TestPullAtOnce(t *testing.T) {
	if ref := os.Getenv("DAVIT_PULL"); ref != "" {
		l, err := store.Locate(os.Getenv("DAVIT_ROOT"))
		if err != nil {
			t.Fatal(err)
		}
		pullAtOnce(t, l, ref)
		return
	}
	f := newFaulty(t)
	_, layers := f.addImage(t, "v1", noise(200_000, 1), noise(200_000, 2))
	l := testLayout(t)
	var wg sync.WaitGroup
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPullAtOnce$")
		cmd.Env = append(os.Environ(), "DAVIT_PULL="+f.host()+"/web:v1", "DAVIT_ROOT="+filepath.Dir(l.Data))
		wg.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("another process: %v\n%s", err, out)
			}
		})
	}
	pullAtOnce(t, l, f.host()+"/web:v1")
	wg.Wait()
	for _, d := range layers {
		if n := f.gets["/v2/web/blobs/"+d.Digest]; n != 1 {
			t.Errorf("layer %s was fetched %d times", d.Digest, n)
		}
	}
	for path, n := range f.gets {
		if n != 1 {
			t.Errorf("%s was fetched %d times", path, n)
		}
	}
	nothingLeft(t, l)
	if locks, _ := filepath.Glob(l.Lock("pull-*")); len(locks) > 0 {
		t.Errorf("locks left: %v", locks)
	}
}

func pullAtOnce(t *testing.T, l store.Layout, ref string) {
	var wg sync.WaitGroup
	for range 4 {
		c := client(t, l, Options{})
		wg.Go(func() {
			if p, err := c.Pull(t.Context(), ref, ""); err != nil || !c.images.Complete(p.Image) {
				t.Errorf("pulled %+v (%v)", p, err)
			}
		})
	}
	wg.Wait()
}

// TestPullResumes cuts the connection at every 64 KiB, once each: the pull
// goes on where it was cut, and no byte is sent twice.
func TestPullResumes(t *testing.T) {
	f := newFaulty(t)
	_, layers := f.addImage(t, "v1", noise(500_000, 1))
	var sent atomic.Int64
	f.fault = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, layers[0].Digest) {
			return false
		}
		from := 0
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		rest := body[from:]
		w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		n, _ := w.Write(rest[:min(len(rest), 64<<10)])
		sent.Add(int64(n))
		w.(http.Flusher).Flush()
		return n == len(rest) || cutConnection(w)
	}
	l := testLayout(t)
	if _, err := client(t, l, Options{}).Pull(t.Context(), f.host()+"/web:v1", ""); err != nil {
		t.Fatal(err)
	}
	if sent.Load() != layers[0].Size {
		t.Errorf("%d bytes were sent for a layer of %d", sent.Load(), layers[0].Size)
	}
	nothingLeft(t, l)
}

func cutConnection(w http.ResponseWriter) bool {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
	return true
}

// TestPullFaults: whatever the registry does wrong, either the right image or
// an error, and nothing half-made.
func TestPullFaults(t *testing.T) {
	isLayer := func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
	}
	status := func(code int, when func(*http.Request) bool, times int) func(http.ResponseWriter, *http.Request, []byte) bool {
		var mu sync.Mutex
		return func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			if !when(r) || times == 0 {
				return false
			}
			times--
			w.WriteHeader(code)
			return true
		}
	}
	body := func(change func([]byte) []byte) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, r *http.Request, b []byte) bool {
			if !isLayer(r) {
				return false
			}
			_, _ = w.Write(change(b))
			return true
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b = append([]byte{}, b...)
			b[len(b)*at/10] ^= 1
			return b
		}
	}
	for name, c := range map[string]struct {
		fault func(http.ResponseWriter, *http.Request, []byte) bool
		want  string // of the error; empty: the image is pulled
	}{
		"busy twice":             {status(http.StatusTooManyRequests, isLayer, 2), ""},
		"broken once":            {status(http.StatusInternalServerError, isLayer, 1), ""},
		"broken for good":        {status(http.StatusInternalServerError, isLayer, -1), "500"},
		"bad gateway":            {status(http.StatusBadGateway, isLayer, 1), ""},
		"blob is missing":        {status(http.StatusNotFound, isLayer, -1), "no such image"},
		"manifest is missing":    {status(http.StatusNotFound, func(r *http.Request) bool { return true }, -1), "no such image: check its name and tag"},
		"denied":                 {status(http.StatusForbidden, func(r *http.Request) bool { return true }, -1), "davit login"},
		"one bit at the start":   {body(flip(1)), "sha256:"},
		"one bit in the middle":  {body(flip(5)), "sha256:"},
		"one bit near the end":   {body(flip(9)), "sha256:"},
		"cut short":              {body(func(b []byte) []byte { return b[:len(b)/2] }), "sha256:"},
		"too long":               {body(func(b []byte) []byte { return append(b[:len(b):len(b)], make([]byte, 10_000)...) }), "expected size"},
		"a page of a hotel wifi": {body(func([]byte) []byte { return []byte("<html>Please log in</html>") }), "sha256:"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFaulty(t)
			f.addImage(t, "v1", noise(100_000, 1), "small")
			f.fault = c.fault
			l := testLayout(t)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			_, err := client(t, l, Options{}).Pull(ctx, f.host()+"/web:v1", "")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
			all, lerr := image.Open(l).List()
			if lerr != nil || (len(all) == 1) != (c.want == "") {
				t.Errorf("images: %v (%v)", all, lerr)
			}
			nothingLeft(t, l)
		})
	}
}

// TestHostileManifests: what contradicts itself is refused before anything is
// fetched because of it.
func TestHostileManifests(t *testing.T) {
	hex := strings.Repeat("a", 64)
	for name, m := range map[string]string{
		"image and index":    `{"schemaVersion":2,"config":{"digest":"sha256:` + hex + `"},"layers":[],"manifests":[]}`,
		"schema 1":           `{"schemaVersion":1,"fsLayers":[]}`,
		"no schema":          `{"config":{"digest":"sha256:` + hex + `"}}`,
		"neither":            `{"schemaVersion":2}`,
		"path as a digest":   `{"schemaVersion":2,"config":{"digest":"sha256:../../../../etc/passwd"},"layers":[]}`,
		"short digest":       `{"schemaVersion":2,"config":{"digest":"sha256:abc"},"layers":[]}`,
		"other algorithm":    `{"schemaVersion":2,"config":{"digest":"md5:` + hex + `"},"layers":[]}`,
		"negative size":      `{"schemaVersion":2,"config":{"digest":"sha256:` + hex + `","size":-1},"layers":[]}`,
		"huge configuration": `{"schemaVersion":2,"config":{"digest":"sha256:` + hex + `","size":99999999999},"layers":[]}`,
		"other media type":   `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"digest":"sha256:` + hex + `"},"layers":[]}`,
		"index as an image":  `{"schemaVersion":2,"mediaType":"` + image.TypeManifest + `","manifests":[]}`,
		"no JSON":            `<html>`,
		"too many layers":    `{"schemaVersion":2,"config":{"digest":"sha256:` + hex + `"},"layers":[` + strings.Repeat(`{"digest":"sha256:`+hex+`"},`, 600) + `{"digest":"sha256:` + hex + `"}]}`,
	} {
		f := newFaulty(t)
		f.tags["v1"] = f.add([]byte(m), image.TypeManifest).Digest
		l := testLayout(t)
		_, err := client(t, l, Options{}).Pull(t.Context(), f.host()+"/web:v1", "")
		if err == nil {
			t.Errorf("%s: pulled", name)
		}
		if all, _ := image.Open(l).List(); len(all) > 0 {
			t.Errorf("%s: images %v", name, all)
		}
		for path := range f.gets {
			if strings.Contains(path, "/blobs/") {
				t.Errorf("%s: it made us ask for %s", name, path)
			}
		}
	}
}

// TestLayerOfOtherDiffID: the blob is what the manifest says, but not what
// the configuration does.
func TestLayerOfOtherDiffID(t *testing.T) {
	f := newFaulty(t)
	config := f.add([]byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+sha([]byte("other"))+`"]}}`), image.TypeConfig)
	layer := f.add(zip(t, tarOf(t, "f", "x")), typeLayerGzip)
	m := image.Manifest{SchemaVersion: 2, MediaType: image.TypeManifest, Config: &config, Layers: []image.Descriptor{layer}}
	f.tags["v1"] = f.add(asJSON(t, m), image.TypeManifest).Digest
	l := testLayout(t)
	_, err := client(t, l, Options{}).Pull(t.Context(), f.host()+"/web:v1", "")
	if err == nil || !strings.Contains(err.Error(), "configuration says") {
		t.Errorf("error is %v", err)
	}
	nothingLeft(t, l)
}

// TestBlobBounds: no more is read than was declared, whatever the source.
func TestBlobBounds(t *testing.T) {
	content := []byte("hello")
	d := image.Descriptor{Digest: sha(content), Size: 5}
	for source, want := range map[string]string{"hello": "", "hell": "4 of 5 bytes", "hello!": "more than the declared", "jello": "has the digest"} {
		err := newBlob(strings.NewReader(source), d, nil).finish()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", source, err, want)
		}
	}
}

// TestManifestOfOtherDigest: an index cannot be answered with another one.
func TestManifestOfOtherDigest(t *testing.T) {
	f := newFaulty(t)
	index, _ := f.addImage(t, "v1", "small")
	evil, _ := f.addImage(t, "v2", "evil!")
	f.blobs[index.Digest] = f.blobs[evil.Digest]
	_, err := client(t, testLayout(t), Options{}).Pull(t.Context(), f.host()+"/web:v1", "")
	if err == nil || !strings.Contains(err.Error(), "has the digest") {
		t.Errorf("error is %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) // who has a port and does not listen keeps others from it
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	host := fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	_, err = client(t, testLayout(t), Options{}).Pull(t.Context(), host+"/web:v1", "")
	if !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "davit load") {
		t.Errorf("error is %v", err)
	}
}

// TestMirror: what is asked of Docker Hub comes from the mirror.
func TestMirror(t *testing.T) {
	f := newFaulty(t)
	f.addImage(t, "7", "small")
	l := testLayout(t)
	if _, err := client(t, l, Options{Mirrors: []string{f.URL}}).Pull(t.Context(), "redis:7", ""); err != nil {
		t.Fatal(err)
	}
	if img, err := image.Open(l).Resolve("redis:7"); err != nil || img.Names[0] != "docker.io/library/redis:7" {
		t.Errorf("resolved %+v (%v)", img, err)
	}
}

// TestPullSetsOnlyTheName: what an index calls itself, or other images, names
// nothing here (CVE-2026-50195).
func TestPullSetsOnlyTheName(t *testing.T) {
	f := newFaulty(t)
	index, _ := f.addImage(t, "v1", "small")
	m, err := image.ParseManifest(f.blobs[index.Digest], "")
	if err != nil {
		t.Fatal(err)
	}
	m.Annotations = map[string]string{"org.opencontainers.image.ref.name": "docker.io/library/debian:12", "io.containerd.image.name": "docker.io/library/redis:7"}
	for i := range m.Manifests {
		m.Manifests[i].Annotations = m.Annotations
	}
	f.tags["v1"] = f.add(asJSON(t, m), image.TypeIndex).Digest
	l := testLayout(t)
	if _, err := client(t, l, Options{}).Pull(t.Context(), f.host()+"/web:v1", ""); err != nil {
		t.Fatal(err)
	}
	all, err := image.Open(l).List()
	if err != nil || len(all) != 1 || len(all[0].Names) != 1 || all[0].Names[0] != f.host()+"/web:v1" {
		t.Errorf("images are %+v (%v)", all, err)
	}
}
