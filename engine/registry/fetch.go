package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/layer"
)

// attempts is how often a layer is begun before the pull is given up; within
// an attempt, a connection that breaks is resumed where it broke.
const attempts = 3

// firstWait is the pause before the second attempt.
var firstWait = 200 * time.Millisecond

// A blob reads at most the bytes that its descriptor declares, and knows at
// the end whether they were the right ones.
type blob struct {
	r    io.Reader
	want image.Descriptor
	sum  hash.Hash
	n    int64
	err  error // of the last Read; it stays
	tell func(n int64)
}

func newBlob(r io.Reader, want image.Descriptor, tell func(int64)) *blob {
	return &blob{r: r, want: want, sum: sha256.New(), tell: tell}
}

// Read implements io.Reader; more or fewer bytes than declared are an error.
// An error stays: the library's reader would go on after an early end with a
// new request, and what follows it would be verified but not be read.
func (b *blob) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	var n int
	n, b.err = b.r.Read(p)
	b.n += int64(n)
	if b.n > b.want.Size {
		n, b.err = 0, fmt.Errorf("%s: the registry sends more than the declared %d bytes", b.want.Digest, b.want.Size)
		return n, b.err
	}
	if b.err == io.EOF && b.n < b.want.Size {
		b.err = fmt.Errorf("%s: the registry sent %d of %d bytes", b.want.Digest, b.n, b.want.Size)
	}
	b.sum.Write(p[:n])
	if b.tell != nil {
		b.tell(b.n)
	}
	return n, b.err
}

// finish reads what is left and checks size and digest.
func (b *blob) finish() error {
	if _, err := io.Copy(io.Discard, b); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(b.sum.Sum(nil)); got != b.want.Digest {
		return fmt.Errorf("%s: what the registry sent has the digest %s", b.want.Digest, got)
	}
	return nil
}

// descriptor is ours in the library's words. URLs are left out: layers come
// from the registry that was asked, and nowhere else.
func descriptor(d image.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size, Annotations: d.Annotations}
}

// fetchSmall returns a manifest or configuration, verified.
func fetchSmall(ctx context.Context, f remotes.Fetcher, d image.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%s: declared with %d bytes; at most %d are read", d.Digest, d.Size, limit)
	}
	var b []byte
	err := retry(ctx, func() error {
		rc, err := f.Fetch(ctx, descriptor(d))
		if err != nil {
			return err
		}
		defer rc.Close()
		body := newBlob(rc, d, nil)
		if b, err = io.ReadAll(body); err != nil {
			return err
		}
		return body.finish()
	})
	return b, err
}

// retry tries again, after a short wait, what may have been the network.
func retry(ctx context.Context, try func() error) error {
	wait := firstWait
	for i := 1; ; i++ {
		err := try()
		if err == nil || i == attempts || final(ctx, err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait *= 4
	}
}

// final tells whether trying again is in vain.
func final(ctx context.Context, err error) bool {
	var limit *layer.LimitError
	return ctx.Err() != nil || errdefs.IsNotFound(err) || errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) ||
		errors.As(err, &limit) || isDiskFull(err) || unreachable(err)
}

// fetchLayer fetches, decompresses, verifies and unpacks a layer in one
// stream. Only when both digests are right is it returned.
func (c *Client) fetchLayer(ctx context.Context, f remotes.Fetcher, d image.Descriptor, diffID string) (*layer.Staged, error) {
	var st *layer.Staged
	err := retry(ctx, func() (err error) {
		st, err = c.fetchOnce(ctx, f, d, diffID)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return st, nil
}

func (c *Client) fetchOnce(ctx context.Context, f remotes.Fetcher, d image.Descriptor, diffID string) (*layer.Staged, error) {
	rc, err := f.Fetch(ctx, descriptor(d))
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b := newBlob(rc, d, func(n int64) { c.progress(d, "Downloading", n) })
	z, err := image.Decompress(b)
	if err != nil {
		return nil, err
	}
	st, err := c.images.Layers().Stage(ctx, z)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if err = b.finish(); err == nil && "sha256:"+st.ID != diffID {
		err = fmt.Errorf("its content has the digest sha256:%s, but the image's configuration says %s", st.ID, diffID)
	}
	if err != nil {
		st.Discard()
		return nil, err
	}
	return st, nil
}

func (c *Client) progress(d image.Descriptor, status string, n int64) {
	if c.o.Progress != nil {
		c.o.Progress(Progress{Layer: d.Digest, Status: status, Done: n, Total: d.Size})
	}
}
