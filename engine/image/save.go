package image

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/davit-run/davit/engine"
)

// A Package is an image made ready to leave this host: configuration and
// manifest with digests of what the layers are as archives.
type Package struct {
	Image    engine.Image
	Config   []byte
	Manifest []byte
	Layers   []Blob
}

// A Blob is one layer as an uncompressed tar.
type Blob struct {
	Layer  string // layer id
	DiffID string // sha256:…
	Size   int64
}

// Pack finds out what an image is as an archive. An image that came from one
// is packed into the same digests; for one that was built here they are
// computed now, and its configuration gets them. The caller holds the layers'
// content until it has read them.
func (s *Store) Pack(ctx context.Context, img engine.Image) (*Package, error) {
	config, err := s.Config(img.ID)
	if err != nil {
		return nil, err
	}
	blobs, err := s.Blobs(ctx, img.Layers)
	if err != nil {
		return nil, fmt.Errorf("pack image %s: %w", img.ID, err)
	}
	diffIDs := make([]string, len(blobs))
	for i, b := range blobs {
		diffIDs[i] = b.DiffID
	}
	if config, err = withDiffIDs(config, diffIDs, img.Created); err != nil {
		return nil, fmt.Errorf("pack image %s: %w", img.ID, err)
	}
	return NewPackage(img, config, blobs)
}

// Blobs are a stack of layers as archives: one for each step that made them
// (layer.Flatten).
func (s *Store) Blobs(ctx context.Context, layers []string) ([]Blob, error) {
	layers, err := s.layers.Flatten(ctx, layers)
	if err != nil {
		return nil, err
	}
	blobs := make([]Blob, 0, len(layers))
	for _, id := range layers {
		m, err := s.layers.Digest(ctx, id)
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, Blob{id, "sha256:" + m.DiffID, m.TarSize})
	}
	return blobs, nil
}

// NewPackage puts a configuration and the layers that it tells of together.
func NewPackage(img engine.Image, config []byte, blobs []Blob) (*Package, error) {
	p := &Package{Image: img, Config: config, Layers: blobs}
	m := Manifest{SchemaVersion: 2, MediaType: TypeManifest, Config: descriptor(TypeConfig, p.Config), Layers: []Descriptor{}}
	for _, l := range p.Layers {
		m.Layers = append(m.Layers, Descriptor{MediaType: TypeLayer, Digest: l.DiffID, Size: l.Size})
	}
	var err error
	p.Manifest, err = json.Marshal(m)
	return p, err
}

func descriptor(mediaType string, b []byte) *Descriptor {
	return &Descriptor{MediaType: mediaType, Digest: digestOf(b), Size: int64(len(b))}
}

// A saved entry of manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Save writes images as one archive that is both an OCI layout and what docker
// load has always read. Refs that are names are kept as the images' names;
// the same images always give the same bytes.
func (s *Store) Save(ctx context.Context, w io.Writer, refs ...string) error {
	hold, err := s.layers.Hold(ctx)
	if err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	defer hold.Release()
	packs, names, err := s.packAll(ctx, refs)
	if err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	buffered := bufio.NewWriterSize(w, 256<<10)
	a := &saver{tar: tar.NewWriter(buffered), s: s, done: map[string]bool{}}
	err = a.save(ctx, packs, names)
	if err == nil {
		err = errors.Join(a.tar.Close(), buffered.Flush())
	}
	if err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	return nil
}

// packAll resolves the references: one package per image, in the order asked,
// with the names it was asked by.
func (s *Store) packAll(ctx context.Context, refs []string) ([]*Package, map[string][]string, error) {
	if len(refs) == 0 {
		return nil, nil, errors.New("no image given")
	}
	var packs []*Package
	names := map[string][]string{}
	for _, ref := range refs {
		img, err := s.Resolve(ref)
		if err != nil {
			return nil, nil, err
		}
		if _, seen := names[img.ID]; !seen {
			p, err := s.Pack(ctx, img)
			if err != nil {
				return nil, nil, err
			}
			packs = append(packs, p)
			names[img.ID] = []string{}
		}
		if n, ok := askedByName(img, ref); ok {
			names[img.ID] = append(names[img.ID], n)
		}
	}
	return packs, names, nil
}

// askedByName returns the tagged name that ref is, unless it is an id.
func askedByName(img engine.Image, ref string) (string, bool) {
	full, err := Normalise(ref)
	if err != nil || strings.Contains(full, "@") {
		return "", false
	}
	for _, n := range img.Names {
		if n == full {
			return full, true
		}
	}
	return "", false
}

type saver struct {
	tar  *tar.Writer
	s    *Store
	done map[string]bool // blobs written
}

func (a *saver) save(ctx context.Context, packs []*Package, names map[string][]string) error {
	index := Manifest{SchemaVersion: 2, MediaType: TypeIndex, Manifests: []Descriptor{}}
	var entries []dockerEntry
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := a.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, p := range packs {
		e, err := a.image(ctx, p)
		if err != nil {
			return err
		}
		asked := names[p.Image.ID]
		for _, n := range asked {
			e.RepoTags = append(e.RepoTags, Familiar(n))
		}
		entries = append(entries, e)
		index.Manifests = append(index.Manifests, listed(p, asked)...)
	}
	for _, f := range []struct {
		name string
		v    any
	}{
		{"index.json", index},
		{"manifest.json", entries},
		{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}},
	} {
		b, err := json.Marshal(f.v)
		if err != nil {
			return err
		}
		if err := a.file(f.name, b); err != nil {
			return err
		}
	}
	return nil
}

// listed are an image's descriptors in the index: one for each name.
func listed(p *Package, names []string) []Descriptor {
	d := *descriptor(TypeManifest, p.Manifest)
	d.Platform = &Platform{Architecture: p.Image.Arch, OS: p.Image.OS, Variant: p.Image.Variant}
	if len(names) == 0 {
		return []Descriptor{d}
	}
	var all []Descriptor
	for _, n := range names {
		d.Annotations = map[string]string{"io.containerd.image.name": n}
		if ref, err := reference.ParseNormalizedNamed(n); err == nil {
			if tagged, ok := ref.(reference.Tagged); ok {
				d.Annotations["org.opencontainers.image.ref.name"] = tagged.Tag()
			}
		}
		all = append(all, d)
	}
	return all
}

func (a *saver) image(ctx context.Context, p *Package) (dockerEntry, error) {
	e := dockerEntry{Config: blobPath(digestOf(p.Config)), RepoTags: []string{}, Layers: []string{}}
	if err := a.file(e.Config, p.Config); err != nil {
		return e, err
	}
	if err := a.file(blobPath(digestOf(p.Manifest)), p.Manifest); err != nil {
		return e, err
	}
	for _, l := range p.Layers {
		e.Layers = append(e.Layers, blobPath(l.DiffID))
		if err := a.layer(ctx, l); err != nil {
			return e, err
		}
	}
	return e, nil
}

func (a *saver) layer(ctx context.Context, l Blob) error {
	name := blobPath(l.DiffID)
	if a.done[name] {
		return nil
	}
	a.done[name] = true
	if err := a.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: l.Size}); err != nil {
		return err
	}
	return a.s.layers.Tar(ctx, l.Layer, a.tar)
}

func (a *saver) file(name string, b []byte) error {
	if a.done[name] {
		return nil
	}
	a.done[name] = true
	if err := a.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := a.tar.Write(b)
	return err
}

func (a *saver) header(h *tar.Header) error {
	h.ModTime, h.Format = time.Unix(0, 0), tar.FormatUSTAR
	if h.Size > 8<<30-1 {
		h.Format = tar.FormatPAX
	}
	return a.tar.WriteHeader(h)
}
