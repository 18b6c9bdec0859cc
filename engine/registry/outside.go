package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
)

// An Outside is an image that is read where it lies, in a registry or an OCI
// layout, without becoming one of this host's.
type Outside struct {
	Config  []byte
	c       *Client
	f       remotes.Fetcher
	layers  []image.Descriptor
	diffIDs []string // of the layers, in order
}

// Open reads manifest and configuration of an image in a registry, of this
// host's platform when there are several.
func (c *Client) Open(ctx context.Context, ref string) (*Outside, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return nil, err
	}
	r := c.resolver(ctx)
	d, err := resolve(ctx, r, name)
	if err != nil {
		return nil, c.explain("open", ref, err)
	}
	f, err := r.Fetcher(ctx, name)
	if err != nil {
		return nil, c.explain("open", ref, err)
	}
	return c.outside(ctx, f, d)
}

// OpenDir is Open for an OCI layout; the tag may be empty when there is one
// image. A directory without a layout is an error that is os.ErrNotExist.
func (c *Client) OpenDir(ctx context.Context, dir, tag string) (*Outside, error) {
	index, err := readIndex(dir)
	if err != nil {
		return nil, fmt.Errorf("open image layout %s: %w", dir, err)
	}
	for _, d := range index.Manifests {
		if len(index.Manifests) == 1 && tag == "" || d.Annotations[ocispec.AnnotationRefName] == orLatest(tag) {
			o, err := c.outside(ctx, layout(dir), d)
			if err != nil {
				return nil, fmt.Errorf("open image layout %s: %w", dir, err)
			}
			return o, nil
		}
	}
	return nil, fmt.Errorf("open image layout %s: there is no image %q in it: %w", dir, orLatest(tag), os.ErrNotExist)
}

func orLatest(tag string) string {
	if tag == "" {
		return "latest"
	}
	return tag
}

func (c *Client) outside(ctx context.Context, f remotes.Fetcher, d image.Descriptor) (*Outside, error) {
	m, _, err := manifest(ctx, f, d, "")
	if err != nil {
		return nil, err
	}
	o := &Outside{c: c, f: f, layers: m.Layers}
	if o.Config, err = fetchSmall(ctx, f, *m.Config, image.MaxConfig); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	img, err := image.Parse(o.Config)
	if err != nil {
		return nil, err
	}
	if o.diffIDs = img.DiffIDs; len(o.diffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("its configuration has %d layers, its manifest %d", len(o.diffIDs), len(m.Layers))
	}
	return o, nil
}

// Bring makes some of the image's layers part of this host's store, where each
// is found by the hex of its diff id. The caller holds the layers' content.
func (o *Outside) Bring(ctx context.Context, diffIDs []string) error {
	var layers []image.Descriptor
	for _, id := range diffIDs {
		i := slices.Index(o.diffIDs, id)
		if i < 0 {
			return fmt.Errorf("layer %s: the image does not have it", id)
		}
		layers = append(layers, o.layers[i])
	}
	return o.c.pullLayers(ctx, o.f, layers, diffIDs)
}

// PushPackage sends what has no name on this host to a registry. The caller
// holds the layers' content.
func (c *Client) PushPackage(ctx context.Context, ref string, p *image.Package) error {
	name, err := image.Normalise(ref)
	if err != nil {
		return err
	}
	if _, err := c.send(ctx, name, p); err != nil {
		return c.explain("push", ref, err)
	}
	return nil
}

// A layout is an OCI layout on disk (image-spec image-layout.md), as a fetcher.
type layout string

func (l layout) blob(digest string) string {
	return filepath.Join(string(l), "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

// Fetch implements remotes.Fetcher. The digest was checked when the manifest
// was parsed.
func (l layout) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := os.Open(l.blob(d.Digest.String()))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.Digest, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func readIndex(dir string) (*image.Manifest, error) {
	f, err := os.Open(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, image.MaxManifest+1))
	if err != nil {
		return nil, err
	}
	m, err := image.ParseManifest(b, "")
	if err != nil {
		return nil, err
	}
	if !m.IsIndex() {
		return nil, errors.New("index.json is no index")
	}
	return m, nil
}

// WriteDir adds a package to the OCI layout in a directory under a tag (empty:
// latest), in the place of what had that tag. Blobs that are there are left.
// The caller holds the layers' content.
func (c *Client) WriteDir(ctx context.Context, dir, tag string, p *image.Package) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return fmt.Errorf("write image layout %s: %w", dir, err)
	}
	index, err := readIndex(dir)
	if errors.Is(err, os.ErrNotExist) {
		index, err = &image.Manifest{SchemaVersion: 2, MediaType: image.TypeIndex}, nil
	}
	if err != nil {
		return fmt.Errorf("write image layout %s: %w", dir, err)
	}
	for _, l := range p.Layers {
		if err := c.writeLayer(ctx, layout(dir).blob(l.DiffID), l); err != nil {
			return fmt.Errorf("write image layout %s: %w", dir, err)
		}
	}
	m := describe(image.TypeManifest, p.Manifest)
	m.Annotations = map[string]string{ocispec.AnnotationRefName: orLatest(tag)}
	index.Manifests = append(slices.DeleteFunc(index.Manifests, func(d image.Descriptor) bool {
		return d.Annotations[ocispec.AnnotationRefName] == orLatest(tag)
	}), *m)
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		text []byte
	}{
		{layout(dir).blob(describe("", p.Config).Digest), p.Config},
		{layout(dir).blob(m.Digest), p.Manifest},
		{filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{filepath.Join(dir, "index.json"), text}, // last: it makes the rest count
	} {
		if err := store.WriteFile(f.path, f.text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeLayer writes a layer's tar to a file that appears whole.
func (c *Client) writeLayer(ctx context.Context, path string, l image.Blob) error {
	if st, err := os.Stat(path); err == nil && st.Size() == l.Size {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // no harm once it has its name
	err = c.images.Layers().Tar(ctx, l.Layer, f)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
