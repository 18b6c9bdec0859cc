package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
)

// A sweepImage is what the sweep pulls: two layers of noise, gzip and zstd,
// that a connection can be cut in, and a small one.
type sweepImage struct {
	*faulty
	parts map[string]string // digest by target
	id    string
	files []string // content of each layer's file
}

func newSweepImage(t *testing.T) *sweepImage {
	i := &sweepImage{faulty: newFaulty(t), parts: map[string]string{}, files: []string{noise(2<<20, 1), noise(300_000, 2), "small"}}
	var diffIDs []string
	m := image.Manifest{SchemaVersion: 2, MediaType: image.TypeManifest}
	for n, content := range i.files {
		layer := tarOf(t, fmt.Sprintf("f%d", n), content)
		diffIDs = append(diffIDs, sha(layer))
		d := i.add(zip(t, layer), typeLayerGzip)
		if n == 1 {
			d = i.add(zstdOf(t, layer), image.TypeLayer+"+zstd")
		}
		i.parts[fmt.Sprint(n)] = d.Digest
		m.Layers = append(m.Layers, d)
	}
	i.id, i.parts["config"] = i.publish(t, "v1", m, diffIDs)
	for d, kind := range i.kinds {
		switch kind {
		case image.TypeManifest:
			i.parts["manifest"] = d
		case image.TypeIndex:
			i.parts["index"] = d
		}
	}
	return i
}

// publish puts a manifest under a tag, with a configuration and an index.
func (i *sweepImage) publish(t *testing.T, tag string, m image.Manifest, diffIDs []string) (id, config string) {
	c := i.add(asJSON(t, map[string]any{
		"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
		"comment": strings.Repeat("long ", 3000),
	}), image.TypeConfig)
	m.Config = &c
	d := i.add(asJSON(t, m), image.TypeManifest)
	d.Platform = &image.Platform{OS: "linux", Architecture: "amd64"}
	index := i.add(asJSON(t, image.Manifest{SchemaVersion: 2, MediaType: image.TypeIndex, Manifests: []image.Descriptor{d}}), image.TypeIndex)
	i.tags[tag] = index.Digest
	return c.Digest, c.Digest
}

func (i *sweepImage) size(on string) int { return len(i.blobs[i.parts[on]]) }

func zstdOf(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(b, nil)
}

// brokenLayers are images whose layer has the digest that it claims, but is
// no whole archive.
func (i *sweepImage) brokenLayers() []fault {
	var all []fault
	for n := range 20 {
		all = append(all, fault{name: "truncated gzip", broken: fmt.Sprintf("gzip-%d", n), want: wrong},
			fault{name: "truncated zstd", broken: fmt.Sprintf("zstd-%d", n), want: wrong})
	}
	for _, how := range []string{"crc", "length", "garbage", "notar", "halftar", "window"} {
		all = append(all, fault{name: "broken by " + how, broken: how, want: wrong})
	}
	return all
}

// breakLayer publishes an image with a broken layer under its name.
func (i *sweepImage) breakLayer(t *testing.T, how string) {
	layer := tarOf(t, "f", noise(50_000, 3))
	b := zip(t, layer)
	var n int
	switch {
	case strings.HasPrefix(how, "gzip-"):
		_, _ = fmt.Sscanf(how, "gzip-%d", &n)
		b = b[:(len(b)-1)*n/20]
	case strings.HasPrefix(how, "zstd-"):
		_, _ = fmt.Sscanf(how, "zstd-%d", &n)
		b = zstdOf(t, layer)
		b = b[:(len(b)-1)*n/20]
	case how == "crc":
		b[len(b)-8] ^= 1
	case how == "length":
		b[len(b)-1] ^= 1
	case how == "garbage":
		b = append(b, "garbage"...)
	case how == "notar":
		b = zip(t, []byte(noise(5000, 4)))
	case how == "halftar":
		b = zip(t, layer[:len(layer)/2])
	case how == "window": // a frame that asks for 3.75 TiB of memory
		b = append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff}, make([]byte, 100)...)
	}
	d := i.add(b, typeLayerGzip)
	i.publish(t, how, image.Manifest{SchemaVersion: 2, MediaType: image.TypeManifest, Layers: []image.Descriptor{d}}, []string{sha(layer)})
}

const secret = "s3cret-of-the-registry"

var basic = base64.StdEncoding.EncodeToString([]byte("me:" + secret))

// elsewhere is another host, which must never see the secret. What it does,
// the first part of the path tells.
func (i *sweepImage) elsewhere(t *testing.T, seen *[]string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		whole, _ := httputil.DumpRequest(r, true)
		i.mu.Lock()
		*seen = append(*seen, string(whole))
		i.mu.Unlock()
		parts := strings.Split(r.URL.Path, "/")
		body := i.blobs[parts[len(parts)-1]]
		switch parts[1] {
		case "good":
			http.ServeContent(w, r, "", stamp, bytes.NewReader(body))
		case "flipped":
			serve(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })(w, r, body)
		case "basic":
			answer(401, "WWW-Authenticate", `Basic realm="give"`)(w, r, nil)
		case "bearer":
			answer(401, "WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)(w, r, nil)
		case "broken":
			w.WriteHeader(http.StatusBadGateway)
		case "cut":
			cutAt(len(body)/2, true)(w, r, body)
		case "loop":
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	// Another name of this machine: another host to HTTP.
	return strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
}

// guarded answers requests without the credentials with a challenge, Basic or
// Bearer, before it lets the fault happen.
func (i *sweepImage) guarded(fl fault, bearer bool) func(http.ResponseWriter, *http.Request, []byte) bool {
	want, challenge := "Basic "+basic, `Basic realm="x"`
	if bearer {
		want, challenge = "Bearer "+secret, `Bearer realm="`+i.URL+`/token",service="x"`
	}
	again := limited(fl.times)
	return func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if r.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"token":"` + secret + `","access_token":"` + secret + `"}`))
			return true
		}
		if r.Header.Get("Authorization") != want {
			answer(401, "WWW-Authenticate", challenge)(w, r, nil)
			return true
		}
		if fl.do == nil || i.target(r) != fl.on || !again() {
			return false
		}
		fl.do(w, r, body)
		return true
	}
}

// TestInjectedFaults pulls from a registry that does one thing wrong, in more
// than 500 ways: what comes is the right image or an error in one line,
// nothing of half an image can be seen, the next pull succeeds, and no other
// host is shown the credentials.
func TestInjectedFaults(t *testing.T) {
	defer func(d time.Duration) { stallAfter = d }(stallAfter)
	i := newSweepImage(t)
	var shown []string
	faults := i.faults(i.elsewhere(t, &shown))
	if len(faults) < 500 {
		t.Fatalf("only %d faults", len(faults))
	}
	step := 11 // not a divisor of how they are nested
	if os.Getenv("DAVIT_LONG") != "" {
		step = 1
	}
	config := writeConfig(t, map[string]any{"auths": map[string]any{i.host(): map[string]string{"username": "me", "password": secret}}})
	for n := 0; n < len(faults); n += step {
		fl := faults[n]
		t.Run(fmt.Sprintf("%s, %s, %d times, %d", fl.name, fl.on, fl.times, n), func(t *testing.T) {
			i.inject(t, fl, config, n%2 == 1)
		})
	}
	for _, s := range shown {
		if strings.Contains(s, "Authorization") || strings.Contains(s, secret) || strings.Contains(s, basic) {
			t.Errorf("the other host was shown %q", s)
		}
	}
	t.Logf("%d faults of %d injected, %d requests to the other host", (len(faults)+step-1)/step, len(faults), len(shown))
}

func (i *sweepImage) inject(t *testing.T, fl fault, config string, bearer bool) {
	tag := "v1"
	if fl.broken != "" {
		tag = fl.broken
		i.breakLayer(t, tag)
	}
	l := memoryLayout(t)
	stallAfter = time.Minute // a busy machine does not stall
	if fl.name == "stall" {
		stallAfter = time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	i.setFault(i.guarded(fl, bearer))
	_, err := client(t, l, Options{ConfigDir: config}).Pull(ctx, i.host()+"/shop/web:"+tag, "")
	switch {
	case err == nil && fl.want == wrong, err != nil && fl.want == right, ctx.Err() != nil:
		t.Errorf("error is %v, want %s", err, fl.want)
	case err != nil && (strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 700 || strings.Contains(err.Error(), secret)):
		t.Errorf("not a clean error: %q", err)
	}
	nothingLeft(t, l)
	if err == nil {
		i.whole(t, l)
		return
	}
	for _, dir := range []string{filepath.Join(l.Images(), "names"), filepath.Join(l.Images(), "ids"), l.Layers()} {
		if names, _ := store.Names(dir); len(names) > 0 {
			t.Errorf("after an error there is %v in %s", names, dir)
		}
	}
	if fl.broken != "" {
		return
	}
	i.setFault(i.guarded(fault{}, bearer))
	if _, err := client(t, l, Options{ConfigDir: config}).Pull(t.Context(), i.host()+"/shop/web:v1", ""); err != nil {
		t.Errorf("without the fault: %v", err)
	}
	i.whole(t, l)
}

func (i *sweepImage) setFault(f func(http.ResponseWriter, *http.Request, []byte) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fault = f
}

// whole checks that the image is here, byte by byte.
func (i *sweepImage) whole(t *testing.T, l store.Layout) {
	t.Helper()
	s := image.Open(l)
	img, err := s.Resolve(i.host() + "/shop/web:v1")
	if err != nil || img.ID != i.id || len(img.Layers) != len(i.files) {
		t.Fatalf("the image is %s of %d layers (%v), want %s", img.ID, len(img.Layers), err, i.id)
	}
	for n, id := range img.Layers {
		b, err := os.ReadFile(filepath.Join(s.Layers().FS(id), fmt.Sprintf("f%d", n)))
		if err != nil || string(b) != i.files[n] {
			t.Errorf("layer %d has %d bytes (%v), want %d", n, len(b), err, len(i.files[n]))
		}
	}
}

// memoryLayout is a layout in memory where there is such a place: hundreds of
// pulls, each synced, would be the disk's test and not the pull's.
func memoryLayout(t *testing.T) store.Layout {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "davit-test-")
	if err != nil {
		return testLayout(t)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := store.Locate(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
