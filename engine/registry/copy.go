package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/davit-run/davit/engine/image"
)

// copy sends what a descriptor names and all that hangs on it, the parts
// before the whole, from one repository to another.
func (s *sender) copy(ctx context.Context, f remotes.Fetcher, d image.Descriptor, depth int) error {
	if depth > 4 {
		return errors.New("manifest: indexes nested too deeply")
	}
	if !isManifest(d.MediaType) {
		return retry(ctx, func() error { return s.copyBlob(ctx, f, d) })
	}
	raw, err := fetchSmall(ctx, f, d, image.MaxManifest)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	m, err := image.ParseManifest(raw, d.MediaType)
	if err != nil {
		return err
	}
	parts := slices.Concat(m.Manifests, m.Layers)
	if m.Config != nil {
		parts = append(parts, *m.Config)
	}
	for _, p := range parts {
		if err := s.copy(ctx, f, p, depth+1); err != nil {
			return err
		}
	}
	part := s
	if depth > 0 { // a pusher is for one manifest
		if part, err = s.c.sender(ctx, image.Repository(s.name)+"@"+d.Digest); err != nil {
			return err
		}
	}
	return part.bytes(ctx, d, raw)
}

// copyBlob streams one blob, unless the target has it or can take it from
// another repository of the same registry.
func (s *sender) copyBlob(ctx context.Context, f remotes.Fetcher, d image.Descriptor) error {
	asked := descriptor(d)
	asked.Annotations = s.from
	w, err := s.p.Push(ctx, asked)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	rc, err := f.Fetch(ctx, descriptor(d))
	if err != nil {
		return err
	}
	defer rc.Close()
	body := newBlob(rc, d, func(n int64) { s.c.progress(d, "Pushing", n) })
	if err := known(content.Copy(ctx, w, body, d.Size, digest.Digest(d.Digest))); err != nil {
		return err
	}
	s.c.progress(d, "Pushed", d.Size)
	return nil
}
