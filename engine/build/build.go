package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build/bridge"
	"github.com/davit-run/davit/engine/build/ops"
	"github.com/davit-run/davit/engine/build/solver"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// A Request is one image to build.
type Request struct {
	Context    string            // directory
	Dockerfile string            // path; empty: Dockerfile in the context; relative ones lie below it
	Inline     string            // the Dockerfile itself, instead of a file
	Contexts   map[string]string // named ones: directory, docker-image://REF, …
	Args       map[string]string
	Labels     map[string]string
	Target     string
	Platform   string
	NoCache    bool
	NoCacheFor []string // stages
	Pull       bool
	Network    string // none, host or default
	ExtraHosts []string
	ShmSize    int64
	Ulimits    []engine.Ulimit
	Secrets    map[string]SecretSource
	SSH        map[string]string // id -> agent socket
	Insecure   bool              // security.insecure was consented to
	HostNet    bool              // network.host was consented to
	Parallel   int               // steps at once; 0: as many as there are processors
}

// A SecretSource says where the value of a build secret comes from.
type SecretSource struct{ File, Env string }

// A Result is a built image: not yet named, but ready to run.
type Result struct {
	Config []byte   // the image's configuration, without diff ids: layers are not digested until they are exported
	Layers []string // layer ids, lowest first
}

// A Builder builds images on this host.
type Builder struct {
	Layout store.Layout
	Layers *layer.Store
	Images ops.ImageSource
	Runner ops.Runner
}

// Build carries a request out. report gets every change of progress, from any
// goroutine.
func (b *Builder) Build(ctx context.Context, r Request, report func(*client.SolveStatus)) (*Result, error) {
	h, opts, cleanup, err := b.prepare(r)
	if err != nil {
		return nil, err
	}
	defer cleanup()
	parallel := r.Parallel
	if parallel <= 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	br := &bridge.Bridge{
		Host: h, Solver: solver.New(h, b.Layout, parallel, report), Options: opts,
		Platform: platforms.Normalize(platforms.DefaultSpec()), Report: report,
	}
	hold, err := b.Layers.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer hold.Release()
	res, err := builder.Build(ctx, br)
	if err != nil {
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	out := &Result{Config: res.Metadata[exptypes.ExporterImageConfigKey]}
	if ref != nil {
		out.Layers = ref.(*bridge.Reference).Layers
	}
	return out, nil
}

// prepare turns a request into the frontend's options and the steps' host.
func (b *Builder) prepare(r Request) (h *ops.Host, opts map[string]string, cleanup func(), err error) {
	cleanup = func() {}
	h = &ops.Host{
		Layers: b.Layers, Images: b.Images, Runner: b.Runner, CacheDir: b.Layout.Cache(),
		Contexts: map[string]string{"context": r.Context}, Secret: secrets(r.Secrets), SSH: r.SSH,
		Insecure: r.Insecure, HostNet: r.HostNet || r.Network == "host",
		ExtraHosts: r.ExtraHosts, ShmSize: r.ShmSize, Ulimits: r.Ulimits, Opened: new(ops.Contexts),
	}
	if err := os.MkdirAll(h.CacheDir, 0o700); err != nil {
		return nil, nil, cleanup, err
	}
	if st, err := os.Stat(r.Context); err != nil {
		return nil, nil, cleanup, fmt.Errorf("build context %s: %w", r.Context, err)
	} else if !st.IsDir() {
		return nil, nil, cleanup, fmt.Errorf("build context %s: not a directory", r.Context)
	}
	dir, name, remove, err := dockerfile(r)
	if err != nil {
		return nil, nil, cleanup, err
	}
	h.Contexts["dockerfile"] = dir
	opts = options(r, name)
	for n, where := range r.Contexts {
		addContext(h, opts, n, where)
	}
	return h, opts, func() { _ = h.Opened.Close(); remove() }, nil
}

// dockerfile finds the directory and name of the Dockerfile; an inline one is
// put into a directory of its own until remove is called.
func dockerfile(r Request) (dir, name string, remove func(), err error) {
	remove = func() {}
	if r.Inline != "" {
		if dir, err = os.MkdirTemp("", "davit-dockerfile-"); err != nil {
			return "", "", remove, err
		}
		remove = func() { _ = os.RemoveAll(dir) }
		return dir, "Dockerfile", remove, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(r.Inline), 0o600)
	}
	p := r.Dockerfile
	if p == "" {
		p = "Dockerfile"
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(r.Context, p)
	}
	if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) && r.Dockerfile == "" {
		if _, err := os.Stat(filepath.Join(r.Context, "dockerfile")); err == nil {
			return r.Context, "Dockerfile", remove, nil
		}
		return "", "", remove, fmt.Errorf("no Dockerfile in %s; write one, or name it with build.dockerfile", r.Context)
	} else if err != nil {
		return "", "", remove, fmt.Errorf("dockerfile %s: %w", p, err)
	}
	return filepath.Dir(p), filepath.Base(p), remove, nil
}

func options(r Request, filename string) map[string]string {
	o := map[string]string{"filename": filename}
	set := func(k, v string) {
		if v != "" {
			o[k] = v
		}
	}
	set("target", r.Target)
	set("platform", r.Platform)
	if r.Network != "" && r.Network != "default" {
		o["force-network-mode"] = r.Network
	}
	if r.NoCache {
		o["no-cache"] = ""
	} else if len(r.NoCacheFor) > 0 {
		o["no-cache"] = strings.Join(r.NoCacheFor, ",")
	}
	if r.Pull {
		o["image-resolve-mode"] = "pull"
	}
	for k, v := range r.Args {
		o["build-arg:"+k] = v
	}
	for k, v := range r.Labels {
		o["label:"+k] = v
	}
	return o
}

// addContext makes a named context known: a directory becomes a local source,
// and everything else is left to the frontend.
func addContext(h *ops.Host, opts map[string]string, name, where string) {
	if st, err := os.Stat(where); err == nil && st.IsDir() {
		local := "context:" + name
		h.Contexts[local] = where
		where = "local:" + local
	}
	opts["context:"+name] = where
}

func secrets(from map[string]SecretSource) ops.Secret {
	return func(id string) ([]byte, error) {
		s, ok := from[id]
		switch {
		case !ok:
			return nil, fmt.Errorf("not given; add it to build.secrets")
		case s.Env != "":
			v, ok := os.LookupEnv(s.Env)
			if !ok {
				return nil, fmt.Errorf("variable %s is not set", s.Env)
			}
			return []byte(v), nil
		}
		return os.ReadFile(s.File)
	}
}

// ImageConfig reads the part of a built configuration that containers inherit.
func ImageConfig(config []byte) (engine.ImageConfig, ocispecs.Platform, error) {
	var c struct {
		ocispecs.Platform
		Config engine.ImageConfig `json:"config"`
	}
	err := json.Unmarshal(config, &c)
	return c.Config, c.Platform, err
}
