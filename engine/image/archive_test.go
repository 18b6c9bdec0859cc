package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

func testStore(t testing.TB) *Store {
	t.Helper()
	l, err := store.Locate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Open(l)
}

type entry struct{ name, body string }

// tarOf writes files as a tar; a body that begins with -> is a link.
func tarOf(t testing.TB, files ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.body)), ModTime: time.Unix(1e9, 0)}
		if to, ok := strings.CutPrefix(f.body, "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, to, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(f.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func zip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

var (
	base = entry{"bin/sh", "shell"}
	app  = entry{"app", strings.Repeat("code ", 50_000)}
)

func configOf(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	c := configuration{Created: time.Unix(1e9, 0).UTC(), Architecture: "amd64", OS: "linux", RootFS: rootFS{Type: "layers"},
		Config: engine.ImageConfig{Cmd: []string{"/app"}, Env: []string{"A=b"}, Labels: map[string]string{"io.davit.x": "evil", "mine": "1"}}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, "sha256:"+sha(l))
		c.History = append(c.History, engine.History{CreatedBy: "COPY"})
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dockerArchive is what docker save wrote before it spoke OCI.
func dockerArchive(t testing.TB, name string) []byte {
	t.Helper()
	one, two := tarOf(t, base), tarOf(t, app)
	config := configOf(t, one, two)
	manifest := fmt.Sprintf(`[{"Config":"%s.json","RepoTags":["%s"],"Layers":["1/layer.tar","2/layer.tar"]}]`, sha(config), name)
	return tarOf(t, entry{"1/layer.tar", string(one)}, entry{"1/VERSION", "1.0"}, entry{"2/layer.tar", string(two)},
		entry{sha(config) + ".json", string(config)}, entry{"manifest.json", manifest})
}

// ociArchive is an OCI layout in a tar, its layers passed through pack.
func ociArchive(t testing.TB, name string, pack func(testing.TB, []byte) []byte) []byte {
	t.Helper()
	one, two := tarOf(t, base), tarOf(t, app)
	config := configOf(t, one, two)
	files := []entry{{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`}}
	add := func(b []byte, kind string) Descriptor {
		files = append(files, entry{"blobs/sha256/" + sha(b), string(b)})
		return Descriptor{MediaType: kind, Digest: "sha256:" + sha(b), Size: int64(len(b))}
	}
	c := add(config, TypeConfig)
	m := Manifest{SchemaVersion: 2, MediaType: TypeManifest, Config: &c,
		Layers: []Descriptor{add(pack(t, one), TypeLayer+"+gzip"), add(pack(t, two), TypeLayer+"+zstd")}}
	mb, _ := json.Marshal(m)
	d := add(mb, TypeManifest)
	d.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "v1"}
	index, _ := json.Marshal(Manifest{SchemaVersion: 2, MediaType: TypeIndex, Manifests: []Descriptor{d}})
	return tarOf(t, append(files, entry{"index.json", string(index)})...)
}

// legacyArchive is what docker save wrote before 1.10.
func legacyArchive(t testing.TB, name string) []byte {
	t.Helper()
	repo, tag, _ := strings.Cut(name, ":")
	return tarOf(t, entry{"aa/json", `{"id":"aa","os":"linux","architecture":"amd64"}`}, entry{"aa/layer.tar", string(tarOf(t, base))},
		entry{"bb/json", `{"id":"bb","parent":"aa","os":"linux","architecture":"amd64","config":{"Cmd":["/app"],"Env":["A=b"]}}`},
		entry{"bb/layer.tar", string(tarOf(t, app))}, entry{"repositories", fmt.Sprintf(`{"%s":{"%s":"bb"}}`, repo, tag)})
}

func same(_ testing.TB, b []byte) []byte { return b }

func archives(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"docker":           dockerArchive(t, "shop:v1"),
		"docker in gzip":   zip(t, dockerArchive(t, "shop:v1")),
		"docker in zstd":   zst(t, dockerArchive(t, "shop:v1")),
		"oci":              ociArchive(t, "docker.io/library/shop:v1", same),
		"oci, gzip layers": ociArchive(t, "docker.io/library/shop:v1", zip),
		"oci, zstd layers": ociArchive(t, "docker.io/library/shop:v1", zst),
		"oldest":           legacyArchive(t, "shop:v1"),
		"linked layers":    linkedArchive(t, "shop:v1"),
	}
}

// linkedArchive has a layer twice, the second time as a link to the first.
func linkedArchive(t testing.TB, name string) []byte {
	t.Helper()
	one, two := tarOf(t, base), tarOf(t, app)
	config := configOf(t, one, two, one)
	manifest := fmt.Sprintf(`[{"Config":"c.json","RepoTags":["%s"],"Layers":["1/layer.tar","2/layer.tar","3/layer.tar"]}]`, name)
	return tarOf(t, entry{"1/layer.tar", string(one)}, entry{"2/layer.tar", string(two)}, entry{"3/layer.tar", "->../1/layer.tar"},
		entry{"c.json", string(config)}, entry{"manifest.json", manifest})
}

// asFile makes a plain file of bytes, which Load reads at any offset.
func asFile(t testing.TB, b []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
