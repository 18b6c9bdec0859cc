package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"

	"github.com/davit-run/davit/engine/build/solver"
	"github.com/davit-run/davit/engine/image"
)

// Kinds of places for a build's cache.
const (
	CacheRegistry = "registry"
	CacheLocal    = "local"  // an OCI layout in a directory
	CacheInline   = "inline" // in the image itself
)

// A Cache is where a build's cache is taken from or left, beside this host's.
type Cache struct {
	Kind string
	Ref  string // of a registry
	Dir  string
	Tag  string // in an OCI layout; empty: latest
	// Lenient: that it cannot be written is no reason for a build to fail.
	Lenient bool
}

// ErrCacheKind means that davit has no such kind of cache.
var ErrCacheKind = errors.New("use type=registry, local or inline")

// ParseCache reads an entry of cache_from or cache_to: TYPE and its options as
// KEY=VALUE with commas between, or an image alone. Directories are relative to
// base. Errors of other tools' kinds are ErrCacheKind.
func ParseCache(text, base string) (Cache, error) {
	c := Cache{Kind: CacheRegistry}
	if !strings.Contains(text, "=") {
		c.Ref = text
		return c, nil
	}
	for _, part := range strings.Split(text, ",") {
		k, v, _ := strings.Cut(part, "=")
		switch strings.TrimSpace(k) {
		case "type":
			c.Kind = v
		case "ref":
			c.Ref = v
		case "src", "dest":
			if c.Dir = v; !filepath.IsAbs(v) {
				c.Dir = filepath.Join(base, v)
			}
		case "tag":
			c.Tag = v
		case "ignore-error":
			c.Lenient = v == "true"
		}
	}
	switch {
	case !slices.Contains([]string{CacheRegistry, CacheLocal, CacheInline}, c.Kind):
		return c, fmt.Errorf("%q: %w", text, ErrCacheKind)
	case c.Kind == CacheRegistry && c.Ref == "":
		return c, fmt.Errorf("%q: name the image with ref=", text)
	case c.Kind == CacheLocal && c.Dir == "":
		return c, fmt.Errorf("%q: name the directory with src= or dest=", text)
	}
	return c, nil
}

// String names the place for progress and messages.
func (c Cache) String() string {
	switch c.Kind {
	case CacheLocal:
		return c.Dir
	case CacheInline:
		return "the image"
	}
	return c.Ref
}

// A Carrier brings caches from other places and takes them there.
type Carrier interface {
	// Open returns the configuration at a place, and how its layers are made
	// part of this host's store, by the hex of their diff ids. A place where
	// there is nothing yet is an error.
	Open(ctx context.Context, c Cache) (config []byte, bring func(ctx context.Context, diffIDs []string) error, err error)
	// Save leaves a configuration with these stacks of layers at a place;
	// describe makes it when the layers' diff ids are known, in the order of
	// the stacks.
	Save(ctx context.Context, c Cache, stacks [][]string, describe func(diffIDs [][]string) ([]byte, error)) error
}

// carried is the key of an image's configuration under which a cache lies.
const carried = "io.davit.buildcache.v1"

// A cacheIndex is a cache as it travels: steps, and which of the image's layers
// each leaves.
type cacheIndex struct {
	Steps []cacheStep `json:"steps"`
}

type cacheStep struct {
	ID      string  `json:"id"`
	Alias   string  `json:"alias,omitempty"`
	Outputs [][]int `json:"outputs"` // positions in rootfs.diff_ids, lowest first
}

// A source is a cache that was opened.
type source struct {
	steps   map[string]cacheStep
	aliases map[string]string
	diffIDs []string
	bring   func(context.Context, []string) error
}

var stepID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// readSource checks what came from elsewhere: ids become names of files.
func readSource(config []byte, bring func(context.Context, []string) error) (*source, error) {
	img, err := image.Parse(config)
	if err != nil {
		return nil, err
	}
	var c map[string]json.RawMessage
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	var index cacheIndex
	if c[carried] == nil {
		return nil, errors.New("no build cache of davit's is in it")
	}
	if err := json.Unmarshal(c[carried], &index); err != nil {
		return nil, fmt.Errorf("read build cache: %w", err)
	}
	s := &source{steps: map[string]cacheStep{}, aliases: map[string]string{}, diffIDs: img.DiffIDs, bring: bring}
	for _, step := range index.Steps {
		if !stepID.MatchString(step.ID) || step.Alias != "" && !stepID.MatchString(step.Alias) {
			return nil, fmt.Errorf("read build cache: step %.80q has no proper name", step.ID)
		}
		for _, at := range slices.Concat(step.Outputs...) {
			if at < 0 || at >= len(img.DiffIDs) {
				return nil, fmt.Errorf("read build cache: step %s has layer %d of %d", step.ID, at, len(img.DiffIDs))
			}
		}
		s.steps[step.ID] = step
		if step.Alias != "" {
			s.aliases[step.Alias] = step.ID
		}
	}
	return s, nil
}

// Alias implements solver.Source.
func (s *source) Alias(alias string) string { return s.aliases[alias] }

// Bring implements solver.Source.
func (s *source) Bring(ctx context.Context, id string) ([][]string, error) {
	step, ok := s.steps[id]
	if !ok {
		return nil, nil
	}
	var outputs [][]string
	for _, out := range step.Outputs {
		diffIDs, layers := make([]string, len(out)), make([]string, len(out))
		for i, at := range out {
			diffIDs[i], layers[i] = s.diffIDs[at], strings.TrimPrefix(s.diffIDs[at], "sha256:")
		}
		if err := s.bring(ctx, diffIDs); err != nil {
			return nil, err
		}
		outputs = append(outputs, layers)
	}
	return outputs, nil
}

// openCaches opens what a request names. One that cannot be opened is told of,
// and the build goes on without it: the first build of all finds none.
func (b *Builder) openCaches(ctx context.Context, r Request, report func(*client.SolveStatus)) []solver.Source {
	var all []solver.Source
	for _, c := range r.CacheFrom {
		if c.Kind == CacheInline || b.Carrier == nil {
			continue // an image's is opened by the image's name
		}
		end := task(report, "importing cache from "+c.String())
		config, bring, err := b.Carrier.Open(ctx, c)
		var s *source
		if err == nil {
			s, err = readSource(config, bring)
		}
		end(err)
		if err == nil {
			all = append(all, s)
		}
	}
	return all
}

// saveCaches leaves the steps of a build where a request says.
func (b *Builder) saveCaches(ctx context.Context, r Request, steps []solver.Step, report func(*client.SolveStatus)) error {
	for _, c := range r.CacheTo {
		if c.Kind == CacheInline || b.Carrier == nil {
			continue
		}
		end := task(report, "exporting cache to "+c.String())
		var stacks [][]string
		for _, s := range steps {
			stacks = append(stacks, s.Outputs...)
		}
		err := b.Carrier.Save(ctx, c, stacks, func(diffIDs [][]string) ([]byte, error) { return cacheConfig(steps, diffIDs) })
		end(err)
		if err != nil && !c.Lenient {
			return fmt.Errorf("export build cache to %s: %w", c, err)
		}
	}
	return nil
}

// cacheConfig describes a cache as an image that holds every layer once.
func cacheConfig(steps []solver.Step, stacks [][]string) ([]byte, error) {
	at := map[string]int{}
	var diffIDs []string
	var index cacheIndex
	for _, s := range steps {
		x := cacheStep{ID: s.ID, Alias: s.Alias, Outputs: [][]int{}}
		for range s.Outputs {
			out := []int{}
			for _, d := range stacks[0] {
				n, known := at[d]
				if !known {
					n = len(diffIDs)
					at[d] = n
					diffIDs = append(diffIDs, d)
				}
				out = append(out, n)
			}
			x.Outputs, stacks = append(x.Outputs, out), stacks[1:]
		}
		index.Steps = append(index.Steps, x)
	}
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": struct{}{}, carried: index,
		"rootfs": map[string]any{"type": "layers", "diff_ids": slices.Concat([]string{}, diffIDs)},
	})
}

// withInline adds to an image's configuration the steps whose layers the image
// has, lowest first and without a gap. count tells how many layers a stack is
// outside this host.
func withInline(config []byte, layers []string, steps []solver.Step, count func([]string) (int, error)) ([]byte, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(config, &keys); err != nil {
		return nil, fmt.Errorf("image configuration: %w", err)
	}
	var index cacheIndex
	for _, s := range steps {
		if len(s.Outputs) != 1 || len(s.Outputs[0]) > len(layers) || !slices.Equal(s.Outputs[0], layers[:len(s.Outputs[0])]) {
			continue
		}
		n, err := count(s.Outputs[0])
		if err != nil {
			return nil, err
		}
		out := make([]int, n)
		for i := range out {
			out[i] = i
		}
		index.Steps = append(index.Steps, cacheStep{ID: s.ID, Alias: s.Alias, Outputs: [][]int{out}})
	}
	slices.SortFunc(index.Steps, func(a, b cacheStep) int { return strings.Compare(a.ID, b.ID) }) // steps end in any order
	var err error
	if keys[carried], err = json.Marshal(index); err != nil {
		return nil, err
	}
	return json.Marshal(keys)
}

// inline says whether a request wants its cache in the image.
func (r Request) inline() bool {
	return r.Args["BUILDKIT_INLINE_CACHE"] == "1" || slices.ContainsFunc(r.CacheTo, func(c Cache) bool { return c.Kind == CacheInline })
}

// task shows something beside the Dockerfile's steps in the progress, until end
// is called.
func task(report func(*client.SolveStatus), name string) (end func(error)) {
	v := client.Vertex{Digest: digest.FromString(name), Name: name}
	started := time.Now()
	v.Started = &started
	report(&client.SolveStatus{Vertexes: []*client.Vertex{&v}})
	return func(err error) {
		done, at := v, time.Now()
		done.Completed = &at
		if err != nil {
			done.Error = err.Error()
		}
		report(&client.SolveStatus{Vertexes: []*client.Vertex{&done}})
	}
}
