package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
)

const typeLayerGzip = image.TypeLayer + "+gzip"

// atOnce is how many layers are compressed and sent side by side.
const atOnce = 4

// Push sends the image that ref names to the registry that is in the name,
// and returns the digest it has there. Layers that the registry has are not
// sent, nor even compressed, once davit has learnt their digests.
func (c *Client) Push(ctx context.Context, ref string) (string, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return "", err
	}
	if strings.Contains(name, "@") {
		return "", fmt.Errorf("push %s: give the name with a tag; the digest comes of itself", ref)
	}
	hold, err := c.images.Layers().Hold(ctx)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	defer hold.Release()
	img, err := c.images.Resolve(name)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	d, err := c.push(ctx, name, img)
	if err != nil {
		return "", c.explain("push", ref, err)
	}
	return d, nil
}

func (c *Client) push(ctx context.Context, name string, img engine.Image) (string, error) {
	pack, err := c.images.Pack(ctx, img)
	if err != nil {
		return "", err
	}
	return c.send(ctx, name, pack)
}

// send brings a package's layers, configuration and manifest to a registry.
func (c *Client) send(ctx context.Context, name string, pack *image.Package) (string, error) {
	s, err := c.sender(ctx, name)
	if err != nil {
		return "", err
	}
	s.from = sources(name, pack.Image.Names)
	m := artifactManifest{Manifest: image.Manifest{SchemaVersion: 2, MediaType: image.TypeManifest, Layers: make([]image.Descriptor, len(pack.Layers))}}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, l := range pack.Layers {
		group.Go(func() (err error) {
			m.Layers[i], err = s.layer(gctx, l)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return s.manifest(ctx, m, image.TypeConfig, pack.Config)
}

// manifest sends a configuration, and the manifest with it; it returns the
// manifest's digest.
func (s *sender) manifest(ctx context.Context, m artifactManifest, configType string, config []byte) (string, error) {
	m.Config = describe(configType, config)
	if err := s.bytes(ctx, *m.Config, config); err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	d := *describe(image.TypeManifest, raw)
	if err := s.bytes(ctx, d, raw); err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	return d.Digest, nil
}

func describe(mediaType string, b []byte) *image.Descriptor {
	return &image.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b).String(), Size: int64(len(b))}
}

// sources are annotations by which the registry may mount a blob from others
// of its repositories, those that this image also has a name in. Their key has
// the host without its port: the library looks for that.
func sources(name string, names []string) map[string]string {
	host, repo := split(name)
	var repos []string
	for _, n := range names {
		if h, r := split(n); h == host && r != repo && !slices.Contains(repos, r) {
			repos = append(repos, r)
		}
	}
	if len(repos) == 0 {
		return nil
	}
	bare := (&url.URL{Host: host}).Hostname()
	return map[string]string{labels.LabelDistributionSource + "." + bare: strings.Join(repos, ",")}
}

func split(name string) (host, repo string) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", ""
	}
	return reference.Domain(ref), reference.Path(ref)
}

type sender struct {
	c    *Client
	r    remotes.Resolver
	name string
	p    remotes.Pusher
	from map[string]string
}

// bytes sends a small blob or a manifest.
func (s *sender) bytes(ctx context.Context, d image.Descriptor, b []byte) error {
	return retry(ctx, func() error {
		w, err := s.p.Push(ctx, descriptor(d))
		if errdefs.IsAlreadyExists(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer w.Close()
		return known(content.Copy(ctx, w, strings.NewReader(string(b)), d.Size, digest.Digest(d.Digest)))
	})
}

func known(err error) error {
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// layer sends one layer, compressed, unless the registry has it.
func (s *sender) layer(ctx context.Context, l image.Blob) (image.Descriptor, error) {
	d, learnt := s.c.learnt(l.DiffID)
	if learnt {
		done, err := s.there(ctx, d)
		if err != nil || done || s.mounted(ctx, d) {
			return d, err
		}
	}
	f, d, err := s.c.compress(ctx, l)
	if err != nil {
		return d, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	err = retry(ctx, func() error { return s.file(ctx, d, f) })
	if err != nil {
		return d, fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	s.c.progress(d, "Pushed", d.Size)
	return d, s.c.learn(l.DiffID, d)
}

// there asks whether the registry has a blob, by a HEAD request.
func (s *sender) there(ctx context.Context, d image.Descriptor) (bool, error) {
	f, err := s.r.Fetcher(ctx, s.name)
	if err != nil {
		return false, err
	}
	byDigest, ok := f.(remotes.FetcherByDigest)
	if !ok {
		return false, nil
	}
	rc, got, err := byDigest.FetchByDigest(ctx, digest.Digest(d.Digest))
	if err != nil {
		return false, ctx.Err() // whatever it was, sending will meet it again
	}
	if err := rc.Close(); err != nil || got.Size != d.Size {
		return false, err
	}
	s.c.progress(d, "Layer already exists", d.Size)
	return true, nil
}

// mounted asks the registry to take a blob from another of its repositories.
func (s *sender) mounted(ctx context.Context, d image.Descriptor) bool {
	if s.from == nil {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // an upload that was begun instead is given up
	asked := d
	asked.Annotations = s.from
	w, err := s.p.Push(ctx, descriptor(asked))
	if err == nil {
		w.Close()
	}
	if !errdefs.IsAlreadyExists(err) {
		return false
	}
	s.c.progress(d, "Mounted", d.Size)
	return true
}

func (s *sender) file(ctx context.Context, d image.Descriptor, f *os.File) error {
	asked := d
	asked.Annotations = s.from
	w, err := s.p.Push(ctx, descriptor(asked))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := newBlob(f, d, func(n int64) { s.c.progress(d, "Pushing", n) })
	return known(content.Copy(ctx, w, r, d.Size, digest.Digest(d.Digest)))
}

// compress writes a layer as a gzip file, whose digest must be known before
// it is sent. The same layer always gives the same bytes.
func (c *Client) compress(ctx context.Context, l image.Blob) (f *os.File, d image.Descriptor, err error) {
	if err := os.MkdirAll(c.layout.Ingest(), 0o700); err != nil {
		return nil, d, fmt.Errorf("compress layer %s: %w", l.DiffID, err)
	}
	f, err = os.CreateTemp(c.layout.Ingest(), "push-*")
	if err != nil {
		return nil, d, fmt.Errorf("compress layer %s: %w", l.DiffID, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, sum), 5)
	if err != nil {
		return nil, d, err
	}
	if err = errors.Join(c.images.Layers().Tar(ctx, l.Layer, z), z.Close()); err != nil {
		return nil, d, fmt.Errorf("compress layer %s: %w", l.DiffID, err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, d, err
	}
	return f, image.Descriptor{MediaType: typeLayerGzip, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Size: st.Size()}, nil
}

func (c *Client) learntPath(diffID string) string {
	return filepath.Join(c.layout.Cache(), "pushed", strings.TrimPrefix(diffID, "sha256:"))
}

// learnt returns what a layer is once compressed, if it was before.
func (c *Client) learnt(diffID string) (image.Descriptor, bool) {
	var d image.Descriptor
	err := store.Read(c.learntPath(diffID), &d)
	return d, err == nil
}

func (c *Client) learn(diffID string, d image.Descriptor) error {
	path := c.learntPath(diffID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("remember layer %s: %w", diffID, err)
	}
	return store.WriteUnsynced(path, d)
}
