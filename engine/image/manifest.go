package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Media types, as manifests name their parts.
const (
	TypeIndex          = "application/vnd.oci.image.index.v1+json"
	TypeManifest       = "application/vnd.oci.image.manifest.v1+json"
	TypeConfig         = "application/vnd.oci.image.config.v1+json"
	TypeLayer          = "application/vnd.oci.image.layer.v1.tar"
	TypeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	TypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// A Descriptor points at a blob (image-spec descriptor.md).
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// A Platform is what an image runs on.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// A Manifest is an image's manifest or an index of several: which, its fields
// tell, and never both (CVE-2021-41190).
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	Config        *Descriptor       `json:"config,omitempty"`
	Layers        []Descriptor      `json:"layers,omitempty"`
	Manifests     []Descriptor      `json:"manifests,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// IsIndex tells whether the manifest is an index.
func (m *Manifest) IsIndex() bool { return m.Config == nil }

// ParseManifest reads a manifest or index and checks it against itself and
// the media type that it was announced with (empty: none).
func ParseManifest(b []byte, mediaType string) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("manifest: larger than %d bytes", MaxManifest)
	}
	var m Manifest
	var all map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(b, &m), json.Unmarshal(b, &all)); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := m.check(all, mediaType); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return &m, nil
}

func (m *Manifest) check(all map[string]json.RawMessage, announced string) error {
	has := func(k string) bool { _, ok := all[k]; return ok }
	if has("fsLayers") || m.SchemaVersion == 1 {
		return errors.New("schema 1, which registries gave up in 2019: push the image again with a current tool")
	}
	if m.SchemaVersion != 2 {
		return fmt.Errorf("schema version %d", m.SchemaVersion)
	}
	if has("manifests") && (has("layers") || has("config")) {
		return errors.New("it claims to be an image and an index at once")
	}
	if !has("manifests") && m.Config == nil {
		return errors.New("neither an image nor an index")
	}
	if m.MediaType != "" && announced != "" && m.MediaType != announced {
		return fmt.Errorf("it was announced as %s but calls itself %s", announced, m.MediaType)
	}
	kind := m.MediaType
	if kind == "" {
		kind = announced
	}
	if kind == TypeIndex || kind == TypeDockerIndex {
		if !m.IsIndex() {
			return fmt.Errorf("it is an image but calls itself %s", kind)
		}
	} else if kind != "" && m.IsIndex() && strings.Contains(kind, "manifest.v") {
		return fmt.Errorf("it is an index but calls itself %s", kind)
	}
	return m.checkParts()
}

func (m *Manifest) checkParts() error {
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%d layers; at most %d can be stacked", len(m.Layers), maxLayers)
	}
	parts := slices.Concat(m.Layers, m.Manifests)
	if m.Config != nil {
		parts = append(parts, *m.Config)
		if m.Config.Size > MaxConfig {
			return fmt.Errorf("a configuration of %d bytes; at most %d are read", m.Config.Size, MaxConfig)
		}
	}
	for _, d := range parts {
		if !isDigest(d.Digest) {
			return fmt.Errorf("%.80q is not a sha256 digest", d.Digest)
		}
		if d.Size < 0 {
			return fmt.Errorf("%s has size %d", d.Digest, d.Size)
		}
	}
	return nil
}

// Choose returns the manifest of an index that is for a platform, such as
// linux/arm64/v8; empty means this host's.
func (m *Manifest) Choose(platform string) (Descriptor, error) {
	osName, arch, variant := SplitPlatform(platform)
	var best *Descriptor
	for i, d := range m.Manifests {
		p := d.Platform
		if p == nil {
			if len(m.Manifests) == 1 {
				return d, nil
			}
			continue
		}
		if p.OS != osName || p.Architecture != arch || d.Annotations["vnd.docker.reference.type"] != "" {
			continue
		}
		if best == nil || p.Variant == variant {
			best = &m.Manifests[i]
			if p.Variant == variant {
				break
			}
		}
	}
	if best == nil {
		return Descriptor{}, fmt.Errorf("no image for %s/%s; there are: %s", osName, arch, strings.Join(m.platforms(), ", "))
	}
	return *best, nil
}

func (m *Manifest) platforms() []string {
	var all []string
	for _, d := range m.Manifests {
		if p := d.Platform; p != nil && p.OS != "unknown" {
			all = append(all, path.Join(p.OS, p.Architecture, p.Variant))
		}
	}
	return all
}

// SplitPlatform takes linux/arm64/v8 apart; what is missing is this host's.
func SplitPlatform(platform string) (osName, arch, variant string) {
	parts := append(strings.SplitN(platform, "/", 3), "", "", "")
	osName, arch, variant = parts[0], parts[1], parts[2]
	if osName == "" {
		osName = "linux"
	}
	if arch == "" {
		arch = runtime.GOARCH
	}
	switch arch {
	case "x86_64":
		arch = "amd64"
	case "aarch64":
		arch = "arm64"
	}
	if arch == "arm64" && variant == "" {
		variant = "v8"
	}
	if arch == "arm" && variant == "" {
		variant = "v7"
	}
	return osName, arch, variant
}
