package registry

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
)

func init() { firstWait = time.Millisecond }

// A faulty registry serves blobs and manifests from memory, and does to any
// request what the test tells it to.
type faulty struct {
	*httptest.Server
	mu    sync.Mutex
	blobs map[string][]byte // by digest
	kinds map[string]string // media types of manifests, by digest
	tags  map[string]string // digests by name:tag
	gets  map[string]int    // GET requests by path
	seen  []*http.Request
	// fault, unless nil, may answer a request in the registry's place.
	fault func(w http.ResponseWriter, r *http.Request, body []byte) bool
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{blobs: map[string][]byte{}, kinds: map[string]string{}, tags: map[string]string{}, gets: map[string]int{}}
	f.start()
	t.Cleanup(f.Close)
	return f
}

func (f *faulty) start() { f.Server = httptest.NewServer(f) }

func (f *faulty) host() string { return strings.TrimPrefix(f.URL, "http://") }

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (f *faulty) add(b []byte, kind string) image.Descriptor {
	d := sha(b)
	f.blobs[d], f.kinds[d] = b, kind
	return image.Descriptor{MediaType: kind, Digest: d, Size: int64(len(b))}
}

// ServeHTTP implements the pulling half of the distribution specification.
func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r.Clone(r.Context()))
	if r.Method == http.MethodGet {
		f.gets[r.URL.Path]++
	}
	parts := strings.Split(r.URL.Path, "/")
	what := parts[len(parts)-1]
	if d, ok := f.tags[what]; ok {
		what = d
	}
	body, ok := f.blobs[what]
	kind, fault := f.kinds[what], f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r, body) {
		return
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", what)
	http.ServeContent(w, r, "", stamp, bytes.NewReader(body))
}

func tarOf(t testing.TB, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: stamp}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// noise does not compress, so that a blob is about as long as it looks.
func noise(n, seed int) string {
	b := make([]byte, 0, n+32)
	sum := sha256.Sum256([]byte(strconv.Itoa(seed)))
	for len(b) < n {
		b = append(b, sum[:]...)
		sum = sha256.Sum256(sum[:])
	}
	return string(b[:n])
}

// addImage publishes an image of gzip layers under a tag, behind an index.
func (f *faulty) addImage(t testing.TB, tag string, contents ...string) (index image.Descriptor, layers []image.Descriptor) {
	t.Helper()
	config := map[string]any{"os": "linux", "architecture": "amd64", "config": map[string]any{"Cmd": []string{"/app"}}}
	m := image.Manifest{SchemaVersion: 2, MediaType: image.TypeManifest}
	var diffIDs []string
	for i, c := range contents {
		layer := tarOf(t, fmt.Sprintf("f%d", i), c)
		diffIDs = append(diffIDs, sha(layer))
		m.Layers = append(m.Layers, f.add(zip(t, layer), typeLayerGzip))
	}
	config["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
	c := f.add(asJSON(t, config), image.TypeConfig)
	m.Config = &c
	d := f.add(asJSON(t, m), image.TypeManifest)
	d.Platform = &image.Platform{OS: "linux", Architecture: "amd64"}
	other := d
	other.Platform = &image.Platform{OS: "linux", Architecture: "s390x"}
	other.Digest = sha([]byte("nowhere"))
	index = f.add(asJSON(t, image.Manifest{SchemaVersion: 2, MediaType: image.TypeIndex, Manifests: []image.Descriptor{other, d}}), image.TypeIndex)
	f.tags[tag] = index.Digest
	return index, m.Layers
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testLayout(t testing.TB) store.Layout {
	t.Helper()
	l, err := store.Locate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func client(t testing.TB, l store.Layout, o Options) *Client {
	t.Helper()
	c, err := New(l, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
