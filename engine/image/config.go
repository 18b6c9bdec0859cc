package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
)

// What an image's JSON may take, in bytes: more is no image (CVE-2023-25153).
const (
	MaxConfig   = 8 << 20
	MaxManifest = 4 << 20
	maxLayers   = 512 // more than overlayfs can stack
)

// A configuration is the JSON that describes an image: the OCI image
// specification's config.md with Docker's additions.
type configuration struct {
	Created      time.Time          `json:"created,omitzero"`
	Author       string             `json:"author,omitempty"`
	Architecture string             `json:"architecture"`
	OS           string             `json:"os"`
	Variant      string             `json:"variant,omitempty"`
	Config       engine.ImageConfig `json:"config"`
	RootFS       rootFS             `json:"rootfs"`
	History      []engine.History   `json:"history,omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// Parse reads an image's configuration. The result's Layers are the diff ids
// as layer ids; ID is the digest of the bytes.
func Parse(config []byte) (engine.Image, error) {
	var img engine.Image
	if len(config) > MaxConfig {
		return img, fmt.Errorf("image configuration: larger than %d bytes", MaxConfig)
	}
	var c configuration
	if err := json.Unmarshal(config, &c); err != nil {
		return img, fmt.Errorf("image configuration: %w", err)
	}
	if err := c.check(); err != nil {
		return img, fmt.Errorf("image configuration: %w", err)
	}
	img = engine.Image{
		ID: digestOf(config), Created: c.Created, OS: c.OS, Arch: c.Architecture, Variant: c.Variant,
		Author: c.Author, Config: c.Config, DiffIDs: c.RootFS.DiffIDs, History: c.History,
	}
	for _, d := range c.RootFS.DiffIDs {
		img.Layers = append(img.Layers, strings.TrimPrefix(d, "sha256:"))
	}
	img.Config.Labels = stripReserved(img.Config.Labels)
	return img, nil
}

// reserved begins the labels that davit itself sets on containers. An image
// must not be able to set them (CVE-2026-53488's rule).
const reserved = "io.davit."

func stripReserved(labels map[string]string) map[string]string {
	for k := range labels {
		if strings.HasPrefix(k, reserved) || strings.HasPrefix(k, "com.docker.compose.") {
			delete(labels, k)
		}
	}
	return labels
}

func (c *configuration) check() error {
	if c.RootFS.Type != "" && c.RootFS.Type != "layers" {
		return fmt.Errorf("root file system of type %q", c.RootFS.Type)
	}
	if len(c.RootFS.DiffIDs) > maxLayers {
		return fmt.Errorf("%d layers; at most %d can be stacked", len(c.RootFS.DiffIDs), maxLayers)
	}
	for _, d := range c.RootFS.DiffIDs {
		if !isDigest(d) {
			return fmt.Errorf("diff id %.80q is not a sha256 digest", d)
		}
	}
	if c.OS != "" && c.OS != "linux" {
		return fmt.Errorf("the image is for %s, not for Linux", c.OS)
	}
	return nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// identify is an image's id: the digest of its configuration, when that names
// the layers; else of both.
func identify(img engine.Image, config []byte) string {
	if len(img.DiffIDs) > 0 || len(img.Layers) == 0 {
		return digestOf(config)
	}
	return digestOf(append(slices.Clip(config), "\n"+strings.Join(img.Layers, "\n")...))
}

// withDiffIDs returns the configuration with these diff ids, and a history
// that has as many non-empty entries. Other keys keep their bytes.
func withDiffIDs(config []byte, diffIDs []string, created time.Time) ([]byte, error) {
	var c configuration
	var keys map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(config, &c), json.Unmarshal(config, &keys)); err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	if slices.Equal(c.RootFS.DiffIDs, diffIDs) {
		return config, nil
	}
	var err error
	if keys["rootfs"], err = json.Marshal(rootFS{"layers", diffIDs}); err != nil {
		return nil, err
	}
	if keys["history"], err = json.Marshal(matched(c.History, len(diffIDs), created)); err != nil {
		return nil, err
	}
	if c.Created.IsZero() && !created.IsZero() {
		if keys["created"], err = json.Marshal(created.UTC()); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(keys); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// matched makes a history tell of exactly n layers, as readers demand: the
// earliest entries beyond n become empty ones, missing ones are added. Entries
// without a time, as a build leaves them, get the image's.
func matched(h []engine.History, n int, created time.Time) []engine.History {
	h = slices.Clone(h)
	have := 0
	for i, e := range h {
		if e.Created.IsZero() {
			h[i].Created = created.UTC()
		}
		if !e.EmptyLayer {
			have++
		}
	}
	for i := 0; have > n; i++ {
		if !h[i].EmptyLayer {
			h[i].EmptyLayer = true
			have--
		}
	}
	for ; have < n; have++ {
		h = append(h, engine.History{Created: created.UTC(), Comment: "davit"})
	}
	return h
}
