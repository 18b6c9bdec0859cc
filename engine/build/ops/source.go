package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine/build/scan"
)

// Contexts are the local directories that a build has opened, each once for
// each set of patterns.
type Contexts struct {
	mu     sync.Mutex
	open   map[string]*scan.Context
	caches map[string]*scan.StatCache
}

// Close lets the directories go and keeps what was learned of their files.
func (c *Contexts) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, t := range c.open {
		errs = append(errs, t.Close())
	}
	for _, s := range c.caches {
		errs = append(errs, s.Save())
	}
	return errors.Join(errs...)
}

func (c *Contexts) get(h *Host, dir string, exclude []string) (*scan.Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := Hash(append([]string{dir}, exclude...)...)
	if t := c.open[key]; t != nil {
		return t, nil
	}
	if c.open == nil {
		c.open, c.caches = make(map[string]*scan.Context), make(map[string]*scan.StatCache)
	}
	if c.caches[dir] == nil {
		c.caches[dir] = scan.OpenStatCache(h.CacheDir, dir)
	}
	t, err := scan.OpenContext(dir, exclude, c.caches[dir])
	if err != nil {
		return nil, fmt.Errorf("open build context %s: %w", dir, err)
	}
	c.open[key] = t
	return t, nil
}

func newSource(h *Host, op *pb.SourceOp, platform *pb.Platform) (Op, error) {
	scheme, rest, ok := strings.Cut(op.Identifier, "://")
	if !ok {
		return nil, fmt.Errorf("source %q: no scheme", op.Identifier)
	}
	switch scheme {
	case "local":
		return &localOp{host: h, name: rest, attrs: op.Attrs}, nil
	case "docker-image":
		return &imageOp{host: h, ref: rest, attrs: op.Attrs, platform: platform}, nil
	case "http", "https":
		return &httpOp{host: h, url: op.Identifier, attrs: op.Attrs}, nil
	case "git":
		return &gitOp{host: h, id: rest, attrs: op.Attrs}, nil
	default:
		return nil, fmt.Errorf("source %q: davit cannot build from %s://", op.Identifier, scheme)
	}
}

// A localOp is a directory of the user's. Its content alone counts.
type localOp struct {
	host  *Host
	name  string
	attrs map[string]string
}

func (o *localOp) Key() (string, error)                  { return "", nil }
func (o *localOp) Inputs([]Snapshot) ([]InputKey, error) { return nil, nil }

func (o *localOp) Run(context.Context, []Snapshot, Output) ([]Snapshot, error) {
	dir, ok := o.host.Contexts[o.name]
	if !ok {
		return nil, fmt.Errorf("build context %q is not known", o.name)
	}
	var exclude []string
	if v := o.attrs[pb.AttrExcludePatterns]; v != "" {
		if err := json.Unmarshal([]byte(v), &exclude); err != nil {
			return nil, fmt.Errorf("exclude patterns: %w", err)
		}
	}
	t, err := o.host.Opened.get(o.host, dir, exclude)
	if err != nil {
		return nil, err
	}
	return []Snapshot{{Tree: t}}, nil
}

// An imageOp is the image that a stage starts from.
type imageOp struct {
	host     *Host
	ref      string
	attrs    map[string]string
	platform *pb.Platform
}

func (o *imageOp) Key() (string, error)                  { return "", nil }
func (o *imageOp) Inputs([]Snapshot) ([]InputKey, error) { return nil, nil }

func (o *imageOp) Run(ctx context.Context, _ []Snapshot, _ Output) ([]Snapshot, error) {
	img, _, err := o.host.Images.Resolve(ctx, o.ref, FormatPlatform(o.platform), o.attrs[pb.AttrImageResolveMode])
	if err != nil {
		return nil, err
	}
	return []Snapshot{{Key: Hash(append([]string{"image"}, img.Layers...)...), Layers: img.Layers}}, nil
}

// FormatPlatform writes a platform as os/arch[/variant]; nil is this machine's,
// and empty.
func FormatPlatform(p *pb.Platform) string {
	if p == nil {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
