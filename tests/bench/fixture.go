package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/images"
)

// fixtureSize is how many bytes the layers of the measured image have, before
// they are compressed; imageLayers are the images whose topmost layers they
// are, the last one cut so that the sum is right.
const fixtureSize = 277_000_000

var imageLayers = []string{"debian", "node", "python", "nginx", "redis", "postgres"}

// A blob is a file that a registry serves.
type blob struct {
	Type   string `json:"mediaType"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// A fixture is an image of six gzip layers, as an archive and in a registry
// that this process is.
type fixture struct {
	dir      string
	blobs    []blob // the layers
	diffIDs  []string
	manifest blob
	archive  string
	ref      string // in the registry
	server   *http.Server
}

// makeFixture makes the image of real files, compressed as docker does it.
func makeFixture(ctx context.Context, dir string) (*fixture, error) {
	f := &fixture{dir: dir, archive: filepath.Join(dir, "image.tar"), blobs: make([]blob, len(imageLayers)), diffIDs: make([]string, len(imageLayers))}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := f.makeLayers(ctx); err != nil {
		return nil, fmt.Errorf("make image to measure: %w", err)
	}
	if err := f.describe(); err != nil {
		return nil, fmt.Errorf("make image to measure: %w", err)
	}
	return f, f.serve()
}

// makeLayers writes the layers, each as a tar and compressed, side by side.
func (f *fixture) makeLayers(ctx context.Context) error {
	cache, _, err := images.Ready(ctx, os.Stderr, imageLayers...)
	if err != nil {
		return err
	}
	var sum int64
	var group errgroup.Group
	for i, name := range imageLayers {
		path := f.tar(i)
		n, err := cache.Layer(name, path, fixtureSize-sum)
		if err != nil {
			return err
		}
		sum += n
		group.Go(func() (err error) {
			f.blobs[i], f.diffIDs[i], err = f.compress(path)
			return err
		})
	}
	return group.Wait()
}

func (f *fixture) tar(i int) string { return filepath.Join(f.dir, fmt.Sprintf("layer%d.tar", i)) }

func (f *fixture) blob(digest string) string {
	return filepath.Join(f.dir, strings.TrimPrefix(digest, "sha256:"))
}

func (f *fixture) compress(path string) (b blob, diffID string, err error) {
	in, err := os.Open(path)
	if err != nil {
		return b, "", err
	}
	defer in.Close()
	out, err := os.Create(path + ".gz")
	if err != nil {
		return b, "", err
	}
	defer out.Close()
	plain, packed := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(out, packed))
	if _, err := io.Copy(io.MultiWriter(z, plain), in); err != nil {
		return b, "", err
	}
	if err := z.Close(); err != nil {
		return b, "", err
	}
	st, err := out.Stat()
	if err != nil {
		return b, "", err
	}
	b = blob{"application/vnd.oci.image.layer.v1.tar+gzip", "sha256:" + hex.EncodeToString(packed.Sum(nil)), st.Size()}
	return b, "sha256:" + hex.EncodeToString(plain.Sum(nil)), os.Rename(path+".gz", f.blob(b.Digest))
}

// keep writes a small blob.
func (f *fixture) keep(v any, kind string) (blob, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return blob{}, err
	}
	sum := sha256.Sum256(b)
	d := blob{kind, "sha256:" + hex.EncodeToString(sum[:]), int64(len(b))}
	return d, os.WriteFile(f.blob(d.Digest), b, 0o644)
}

// describe writes configuration and manifest, and the archive.
func (f *fixture) describe() error {
	config, err := f.keep(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "rootfs": map[string]any{"type": "layers", "diff_ids": f.diffIDs},
	}, "application/vnd.oci.image.config.v1+json")
	if err != nil {
		return err
	}
	f.manifest, err = f.keep(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": f.blobs,
	}, "application/vnd.oci.image.manifest.v1+json")
	if err != nil {
		return err
	}
	out, err := os.Create(f.archive)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	index := map[string]any{"schemaVersion": 2, "manifests": []blob{f.manifest}}
	entry := map[string]any{"Config": blobPath(config), "RepoTags": []string{"davit-bench:1"}, "Layers": paths(f.blobs)}
	for name, v := range map[string]any{"index.json": index, "manifest.json": []any{entry}, "oci-layout": map[string]string{"imageLayoutVersion": "1.0.0"}} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := add(w, name, int64(len(b)), strings.NewReader(string(b))); err != nil {
			return err
		}
	}
	for _, b := range append([]blob{config, f.manifest}, f.blobs...) {
		if err := f.addBlob(w, b); err != nil {
			return err
		}
	}
	return w.Close()
}

func blobPath(b blob) string { return "blobs/sha256/" + strings.TrimPrefix(b.Digest, "sha256:") }

func paths(blobs []blob) []string {
	var all []string
	for _, b := range blobs {
		all = append(all, blobPath(b))
	}
	return all
}

func (f *fixture) addBlob(w *tar.Writer, b blob) error {
	in, err := os.Open(f.blob(b.Digest))
	if err != nil {
		return err
	}
	defer in.Close()
	return add(w, blobPath(b), b.Size, in)
}

func add(w *tar.Writer, name string, size int64, r io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.Copy(w, r)
	return err
}

// serve is a registry with one image, on loopback.
func (f *fixture) serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f.ref = "localhost:" + fmt.Sprint(l.Addr().(*net.TCPAddr).Port) + "/davit-bench:1"
	f.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := filepath.Base(r.URL.Path)
		if what == "1" {
			what = f.manifest.Digest
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", f.manifest.Type)
		}
		w.Header().Set("Docker-Content-Digest", what)
		http.ServeFile(w, r, f.blob(what))
	})}
	go func() { _ = f.server.Serve(l) }()
	return nil
}

// gunzip decompresses all layers, as many at once as there are processors.
func (f *fixture) gunzip() error {
	return each(f.blobs, func(b blob) error {
		in, err := os.Open(f.blob(b.Digest))
		if err != nil {
			return err
		}
		defer in.Close()
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, z)
		return err
	})
}

// digest sums up all layers, compressed and not, as a pull has to.
func (f *fixture) digest() error {
	var files []string
	for i, b := range f.blobs {
		files = append(files, f.tar(i), f.blob(b.Digest))
	}
	return each(files, func(path string) error {
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(sha256.New(), in)
		return err
	})
}

// untar unpacks all layers with tar(1), until they are on davit's disk.
func (f *fixture) untar() error {
	to, err := os.MkdirTemp(filepath.Join(filepath.Dir(f.dir), "root"), "untar-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(to)
	files := make([]string, len(f.blobs))
	for i := range files {
		files[i] = f.tar(i)
	}
	err = each(files, func(path string) error {
		at := filepath.Join(to, filepath.Base(path))
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		out, err := exec.Command("tar", "-xpf", path, "-C", at, "--numeric-owner", "--same-owner").CombinedOutput()
		if err != nil {
			return fmt.Errorf("tar: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d, err := os.Open(to)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// each does something with all of a list, on all processors.
func each[T any](all []T, do func(T) error) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, one := range all {
		group.Go(func() error { return do(one) })
	}
	return group.Wait()
}

// theFixture is made when a scenario first needs it.
var theFixture = struct {
	sync.Mutex
	f *fixture
}{}

func needFixture(ctx context.Context, dir string) (*fixture, error) {
	theFixture.Lock()
	defer theFixture.Unlock()
	if theFixture.f != nil {
		return theFixture.f, nil
	}
	var err error
	theFixture.f, err = makeFixture(ctx, filepath.Join(dir, "fixture"))
	return theFixture.f, err
}
