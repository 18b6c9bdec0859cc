package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"

	"github.com/davit-run/davit/engine/image"
)

// typeEmpty is the media type of the configuration of what is no image; its
// content is {} (image-spec v1.1, manifest.md, guidance for artifacts).
const typeEmpty = "application/vnd.oci.empty.v1+json"

// An Artifact is what a registry keeps under a name that is no image: some
// files, each with a type and annotations.
type Artifact struct {
	Type   string // what its files are together
	Digest string // of its manifest
	Parts  []Part
}

// A Part is one file of an artefact.
type Part struct {
	MediaType   string
	Annotations map[string]string
	Content     []byte
}

// A Bounds is how much an artefact may hold.
type Bounds struct {
	Parts int
	Bytes int64 // of all parts together
}

// An artifactManifest is a manifest with the words of image-spec v1.1.
type artifactManifest struct {
	image.Manifest
	ArtifactType string            `json:"artifactType,omitempty"`
	Subject      *image.Descriptor `json:"subject,omitempty"`
}

// Artifact fetches what ref names, every byte of it verified, into memory. No
// part is fetched when the manifest declares more than the bounds allow, or is
// not of one of the two types: its artifactType, or that of its configuration
// as registries of image-spec v1.0 need it.
func (c *Client) Artifact(ctx context.Context, ref, artifactType, configType string, most Bounds) (Artifact, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return Artifact{}, err
	}
	a, err := c.artifact(ctx, name, artifactType, configType, most)
	if err != nil {
		return Artifact{}, c.explain("fetch", ref, err)
	}
	return a, nil
}

func (c *Client) artifact(ctx context.Context, name, artifactType, configType string, most Bounds) (Artifact, error) {
	r := c.resolver(ctx)
	d, err := resolve(ctx, r, name)
	if err != nil {
		return Artifact{}, err
	}
	f, err := r.Fetcher(ctx, name)
	if err != nil {
		return Artifact{}, err
	}
	raw, err := fetchSmall(ctx, f, d, image.MaxManifest)
	if err != nil {
		return Artifact{}, fmt.Errorf("manifest: %w", err)
	}
	parts, err := parts(raw, d.MediaType, artifactType, configType, most)
	if err != nil {
		return Artifact{}, err
	}
	a := Artifact{Type: artifactType, Digest: d.Digest}
	for _, p := range parts {
		content, err := fetchSmall(ctx, f, p, most.Bytes)
		if err != nil {
			return Artifact{}, err
		}
		a.Parts = append(a.Parts, Part{MediaType: p.MediaType, Annotations: p.Annotations, Content: content})
	}
	return a, nil
}

// parts reads an artefact's manifest, and holds what it declares against the
// bounds.
func parts(raw []byte, mediaType, artifactType, configType string, most Bounds) ([]image.Descriptor, error) {
	m, err := image.ParseManifest(raw, mediaType)
	if err != nil {
		return nil, err
	}
	var more artifactManifest
	if err := json.Unmarshal(raw, &more); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.IsIndex() || more.ArtifactType != artifactType && (more.ArtifactType != "" || m.Config.MediaType != configType) {
		return nil, fmt.Errorf("it is not of the type %s", artifactType)
	}
	if len(m.Layers) > most.Parts {
		return nil, fmt.Errorf("it has %d files; at most %d are fetched", len(m.Layers), most.Parts)
	}
	left := most.Bytes
	for _, p := range m.Layers {
		if left -= p.Size; left < 0 {
			return nil, fmt.Errorf("it has more than %d bytes; at most %d are fetched", most.Bytes-left-p.Size, most.Bytes)
		}
	}
	return m.Layers, nil
}

// PushArtifact sends an artefact under a name, and returns its digest. The
// version of image-spec is 1.0, 1.1, or empty: 1.1, and 1.0 where the registry
// does not take that.
func (c *Client) PushArtifact(ctx context.Context, ref string, a Artifact, configType, version string) (string, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return "", err
	}
	d, err := c.pushArtifact(ctx, name, a, configType, version)
	if err != nil {
		return "", c.explain("publish", ref, err)
	}
	return d, nil
}

func (c *Client) pushArtifact(ctx context.Context, name string, a Artifact, configType, version string) (string, error) {
	s, err := c.sender(ctx, name)
	if err != nil {
		return "", err
	}
	m := artifactManifest{Manifest: image.Manifest{SchemaVersion: 2, MediaType: image.TypeManifest, Layers: []image.Descriptor{}}}
	for _, p := range a.Parts {
		d := describe(p.MediaType, p.Content)
		if err := s.bytes(ctx, *d, p.Content); err != nil {
			return "", err
		}
		d.Annotations = p.Annotations
		m.Layers = append(m.Layers, *d)
	}
	switch version {
	case "1.0":
		return s.artifact(ctx, m, configType, "")
	case "1.1":
		return s.artifact(ctx, m, typeEmpty, a.Type)
	}
	digest, err := s.artifact(ctx, m, typeEmpty, a.Type)
	var status remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &status) && refused(status.StatusCode) {
		return s.artifact(ctx, m, configType, "")
	}
	return digest, err
}

// refused says whether a status blames what was sent, and not who sent it.
func refused(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusTooManyRequests:
		return false
	}
	return status >= 400 && status < 500
}

func (c *Client) sender(ctx context.Context, name string) (*sender, error) {
	r := c.resolver(ctx)
	p, err := r.Pusher(ctx, name)
	if err != nil {
		return nil, err
	}
	return &sender{c: c, r: r, p: p, name: name}, nil
}

// artifact sends an empty configuration of a type, and the manifest with it.
func (s *sender) artifact(ctx context.Context, m artifactManifest, configType, artifactType string) (string, error) {
	m.ArtifactType = artifactType
	return s.manifest(ctx, m, configType, []byte("{}"))
}

// PushApplication copies images into the repository of an artefact that is
// there already, and ties all together by an index whose subject the artefact
// is; it returns the index's digest, which is all that names it.
func (c *Client) PushApplication(ctx context.Context, ref string, subject string, images []string) (string, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return "", err
	}
	d, err := c.pushApplication(ctx, name, subject, images)
	if err != nil {
		return "", c.explain("publish", ref, err)
	}
	return d, nil
}

func (c *Client) pushApplication(ctx context.Context, name, subject string, images []string) (string, error) {
	repository := image.Repository(name)
	of, err := resolve(ctx, c.resolver(ctx), repository+"@"+subject)
	if err != nil {
		return "", err
	}
	index := struct {
		SchemaVersion int                `json:"schemaVersion"`
		MediaType     string             `json:"mediaType"`
		Manifests     []image.Descriptor `json:"manifests"`
		Subject       image.Descriptor   `json:"subject"`
	}{2, image.TypeIndex, []image.Descriptor{}, of}
	for _, from := range images {
		d, err := c.copyImage(ctx, from, repository)
		if err != nil {
			return "", fmt.Errorf("copy %s: %w", from, err)
		}
		index.Manifests = append(index.Manifests, d)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return "", err
	}
	d := *describe(image.TypeIndex, raw)
	s, err := c.sender(ctx, repository+"@"+d.Digest)
	if err != nil {
		return "", err
	}
	return d.Digest, s.bytes(ctx, d, raw)
}

// copyImage brings an image, of all its platforms, from its registry into a
// repository, without keeping it here.
func (c *Client) copyImage(ctx context.Context, ref, repository string) (image.Descriptor, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return image.Descriptor{}, err
	}
	r := c.resolver(ctx)
	d, err := resolve(ctx, r, name)
	if err != nil {
		return d, err
	}
	f, err := r.Fetcher(ctx, name)
	if err != nil {
		return d, err
	}
	s, err := c.sender(ctx, repository+"@"+d.Digest)
	if err != nil {
		return d, err
	}
	s.from = sources(repository, []string{name})
	return d, s.copy(ctx, f, d, 0)
}

func isManifest(mediaType string) bool {
	return mediaType == image.TypeIndex || mediaType == image.TypeManifest || strings.HasPrefix(mediaType, "application/vnd.docker.distribution.manifest.")
}
