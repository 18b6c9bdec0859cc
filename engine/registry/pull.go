package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/opencontainers/go-digest"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// Pulled is the outcome of a pull.
type Pulled struct {
	Image  engine.Image
	Digest string // of what the reference names: a manifest or an index
	Fresh  bool   // it was not on this host before
}

// Pull brings the image that ref names to this host, for a platform such as
// linux/arm64 (empty: this host's). Each layer is one stream from the network
// to its directory, all at once; layers that are here are not fetched. Only
// the reference that was asked for is set (CVE-2026-50195's rule), and only
// when all is there.
func (c *Client) Pull(ctx context.Context, ref, platform string) (Pulled, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return Pulled{}, err
	}
	hold, err := c.images.Layers().Hold(ctx)
	if err != nil {
		return Pulled{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	defer hold.Release()
	p, err := c.pull(ctx, name, platform)
	if err != nil {
		return Pulled{}, c.explain("pull", ref, err)
	}
	return p, nil
}

func (c *Client) pull(ctx context.Context, name, platform string) (Pulled, error) {
	r := c.resolver(ctx)
	d, err := resolve(ctx, r, name)
	if err != nil {
		return Pulled{}, err
	}
	if img, ok := c.present(name, d.Digest, platform); ok {
		return Pulled{Image: img, Digest: d.Digest}, c.images.Confirm(name)
	}
	// Whoever wants the same meanwhile waits, and then finds it here.
	lock, err := store.Acquire(ctx, c.layout.Lock("pull-"+digest.FromString(name + " " + d.Digest + " " + platform).Encoded()[:32]))
	if err != nil {
		return Pulled{}, err
	}
	defer lock.ReleaseRemove()
	if img, ok := c.present(name, d.Digest, platform); ok {
		return Pulled{Image: img, Digest: d.Digest}, nil
	}
	return c.take(ctx, r, name, d, platform)
}

// take brings what a name was resolved to.
func (c *Client) take(ctx context.Context, r remotes.Resolver, name string, d image.Descriptor, platform string) (Pulled, error) {
	f, err := r.Fetcher(ctx, name)
	if err != nil {
		return Pulled{}, err
	}
	m, raw, err := manifest(ctx, f, d, platform)
	if err != nil {
		return Pulled{}, err
	}
	config, err := fetchSmall(ctx, f, *m.Config, image.MaxConfig)
	if err != nil {
		return Pulled{}, fmt.Errorf("configuration: %w", err)
	}
	img, err := image.Parse(config)
	if err != nil {
		return Pulled{}, err
	}
	if len(img.DiffIDs) != len(m.Layers) {
		return Pulled{}, fmt.Errorf("its configuration has %d layers, its manifest %d: not a container image", len(img.DiffIDs), len(m.Layers))
	}
	if err := c.pullLayers(ctx, f, m.Layers, img.DiffIDs); err != nil {
		return Pulled{}, err
	}
	img.Digest = d.Digest
	if img.Size, err = c.images.Layers().Sum(img.Layers); err != nil {
		return Pulled{}, err
	}
	if img, err = c.images.Put(img, config, raw, name); err != nil {
		return Pulled{}, err
	}
	return Pulled{Image: img, Digest: d.Digest, Fresh: true}, nil
}

// Digest asks the registry which digest a reference names now, without
// fetching anything.
func (c *Client) Digest(ctx context.Context, ref string) (string, error) {
	name, err := image.Normalise(ref)
	if err != nil {
		return "", err
	}
	d, err := resolve(ctx, c.resolver(ctx), name)
	if err != nil {
		return "", c.explain("look up", ref, err)
	}
	return d.Digest, nil
}

func resolve(ctx context.Context, r remotes.Resolver, name string) (image.Descriptor, error) {
	var d image.Descriptor
	err := retry(ctx, func() error {
		_, got, err := r.Resolve(ctx, name)
		d = image.Descriptor{MediaType: got.MediaType, Digest: got.Digest.String(), Size: got.Size}
		return err
	})
	return d, err
}

// present tells whether the name already means this digest here, whole and
// for the right platform.
func (c *Client) present(name, digest, platform string) (engine.Image, bool) {
	img, err := c.images.Lookup(name)
	if err != nil || img.Digest != digest || !c.images.Complete(img) {
		return img, false
	}
	osName, arch, _ := image.SplitPlatform(platform)
	return img, img.OS == osName && img.Arch == arch || platform == ""
}

// manifest fetches the image's manifest, through an index if there is one.
func manifest(ctx context.Context, f remotes.Fetcher, d image.Descriptor, platform string) (*image.Manifest, []byte, error) {
	for range 4 {
		raw, err := fetchSmall(ctx, f, d, image.MaxManifest)
		if err != nil {
			return nil, nil, fmt.Errorf("manifest: %w", err)
		}
		m, err := image.ParseManifest(raw, d.MediaType)
		if err != nil {
			return nil, nil, err
		}
		if !m.IsIndex() {
			return m, raw, nil
		}
		if d, err = m.Choose(platform); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, errors.New("manifest: indexes nested too deeply")
}

// A missing layer is one to fetch.
type missing struct {
	d      image.Descriptor
	diffID string
}

// pullLayers makes all layers part of the store, those missing side by side.
// Whoever else needs one of them meanwhile waits for us, and then finds it.
func (c *Client) pullLayers(ctx context.Context, f remotes.Fetcher, layers []image.Descriptor, diffIDs []string) error {
	todo, release, err := c.claim(ctx, layers, diffIDs)
	if err != nil {
		return err
	}
	defer release()
	ready, err := c.fetchAll(ctx, f, todo)
	if err != nil {
		return err
	}
	if err := c.images.Layers().Publish(ready...); err != nil {
		return err
	}
	for _, m := range todo {
		c.progress(m.d, "Pull complete", m.d.Size)
	}
	return nil
}

// fetchAll stages all layers at once, or none.
func (c *Client) fetchAll(ctx context.Context, f remotes.Fetcher, todo []missing) ([]*layer.Staged, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		ready []*layer.Staged
		first error
	)
	for _, m := range todo {
		c.progress(m.d, "Pulling fs layer", 0)
		wg.Go(func() {
			st, err := c.fetchLayer(ctx, f, m.d, m.diffID)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ready = append(ready, st)
			} else if first == nil {
				first = err
				cancel()
			}
		})
	}
	wg.Wait()
	if first != nil {
		for _, st := range ready {
			st.Discard()
		}
		return nil, first
	}
	return ready, nil
}

// claim finds the layers that are missing and takes the right to make them,
// in the order of their ids, so that no two pulls wait for each other.
func (c *Client) claim(ctx context.Context, layers []image.Descriptor, diffIDs []string) ([]missing, func(), error) {
	var todo []missing
	for i, d := range layers {
		todo = append(todo, missing{d, diffIDs[i]})
	}
	slices.SortFunc(todo, func(a, b missing) int { return cmp.Compare(a.diffID, b.diffID) })
	todo = slices.CompactFunc(todo, func(a, b missing) bool { return a.diffID == b.diffID })
	var locks []*store.Lock
	release := func() {
		for _, l := range locks {
			l.ReleaseRemove()
		}
	}
	var left []missing
	for _, m := range todo {
		id := strings.TrimPrefix(m.diffID, "sha256:")
		if !c.images.Layers().Has(id) {
			lock, err := c.images.Layers().Claim(ctx, id)
			if err != nil {
				release()
				return nil, nil, err
			}
			locks = append(locks, lock)
		}
		if c.images.Layers().Has(id) {
			c.progress(m.d, "Already exists", m.d.Size)
			continue
		}
		left = append(left, m)
	}
	return left, release, nil
}
