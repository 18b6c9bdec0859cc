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
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build/bridge"
	"github.com/davit-run/davit/engine/build/ops"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/build/solver"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// A Request is one image to build.
type Request struct {
	Context    string            // directory, git URL, or URL of a tarball
	Dockerfile string            // path; empty: Dockerfile in the context; relative ones lie below it
	Inline     string            // the Dockerfile itself, instead of a file
	Contexts   map[string]string // named ones: directory, docker-image://REF, URL
	Args       map[string]string
	Labels     map[string]string
	Target     string
	Platform   string
	NoCache    bool
	NoCacheFor []string // stages
	Pull       bool
	Network    string   // none, host or default
	ExtraHosts []string // name:address
	ShmSize    int64
	Ulimits    []engine.Ulimit
	Secrets    map[string]SecretSource
	SSH        map[string]string // id -> agent socket or private key
	Insecure   bool              // security.insecure was consented to
	HostNet    bool              // network.host was consented to
	Parallel   int               // steps at once; 0: as many as there are processors
	// CacheFrom and CacheTo are caches beside this host's own.
	CacheFrom, CacheTo []Cache
	// Local are references of images that were built a moment ago: they are
	// not looked for in a registry, whatever Pull says.
	Local []string
}

// A SecretSource says where the value of a build secret comes from: a file, a
// variable of davit's own environment, or the value itself.
type SecretSource struct {
	File, Env string
	Value     []byte
}

// A Result is a built image: not yet named, but ready to run.
type Result struct {
	Config []byte   // the image's configuration, without diff ids: layers are not digested until they are exported
	Layers []string // layer ids, lowest first
	Ran    int      // steps that were not found in the cache
}

// A Builder builds images on this host.
type Builder struct {
	Layout store.Layout
	Layers *layer.Store
	Images ops.ImageSource
	Runner ops.Runner
	// Carrier reaches the caches of requests; nil: they are passed over.
	Carrier Carrier
}

// Build carries a request out. report gets every change of progress, from any
// goroutine.
func (b *Builder) Build(ctx context.Context, r Request, report func(*client.SolveStatus)) (*Result, error) {
	res, did, err := b.ask(ctx, r, "", report)
	if err != nil {
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	out := &Result{Config: res.Metadata[exptypes.ExporterImageConfigKey], Ran: did.ran}
	if ref != nil {
		out.Layers = ref.(*bridge.Reference).Layers
	}
	if r.inline() {
		out.Config, err = withInline(out.Config, out.Layers, did.steps, b.Layers.Flattened)
	}
	return out, err
}

// work is what one request took.
type work struct {
	ran   int // steps that were not found in a cache
	steps []solver.Step
}

// Calls that a Dockerfile answers without being built.
const (
	CallCheck   = "frontend.lint"
	CallOutline = "frontend.outline"
	CallTargets = "frontend.targets"
)

// Call asks a Dockerfile a question; the answer is text for people, and the
// same as JSON. ok is false when a check found mistakes.
func (b *Builder) Call(ctx context.Context, r Request, call string, report func(*client.SolveStatus)) (text, object []byte, ok bool, err error) {
	res, _, err := b.ask(ctx, r, call, report)
	if err != nil {
		return nil, nil, false, err
	}
	status := string(res.Metadata["result.statuscode"])
	text, object = res.Metadata["result.txt"], res.Metadata["result.json"]
	if call == CallCheck {
		text = append(checkSummary(object), text...)
	}
	return text, object, status == "" || status == "0", nil
}

// checkSummary is the line that docker build --check begins with.
func checkSummary(object []byte) []byte {
	var found struct {
		Warnings []json.RawMessage `json:"warnings"`
	}
	_ = json.Unmarshal(object, &found) // the text says the rest in any case
	switch n := len(found.Warnings); n {
	case 0:
		return []byte("Check complete, no warnings found.\n")
	case 1:
		return []byte("Check complete, 1 warning has been found!\n")
	default:
		return fmt.Appendf(nil, "Check complete, %d warnings have been found!\n", n)
	}
}

// contextReads is how often a context is read anew when a file of it changed
// under a step's hands, as editors and compilers beside a build do.
const contextReads = 3

// ask has the frontend answer a request, and counts the steps that ran: the
// empty call builds.
func (b *Builder) ask(ctx context.Context, r Request, call string, report func(*client.SolveStatus)) (res *gateway.Result, did work, err error) {
	if report == nil {
		report = func(*client.SolveStatus) {}
	}
	for range contextReads {
		var once work
		res, once, err = b.askOnce(ctx, r, call, report)
		did = work{did.ran + once.ran, once.steps}
		if !errors.Is(err, scan.ErrChanged) {
			break
		}
	}
	return res, did, err
}

func (b *Builder) askOnce(ctx context.Context, r Request, call string, report func(*client.SolveStatus)) (*gateway.Result, work, error) {
	h, opts, cleanup, err := b.prepare(r)
	defer cleanup()
	if err != nil {
		return nil, work{}, err
	}
	if call != "" {
		opts["requestid"] = call
	}
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
		return nil, work{}, err
	}
	defer hold.Release()
	if call == "" {
		br.Solver.From, br.Solver.Warn = b.openCaches(ctx, r, report), br.Warning
	}
	res, err := builder.Build(ctx, br)
	did := work{int(br.Solver.Ran()), br.Solver.Steps()}
	if err == nil && call == "" {
		err = b.saveCaches(ctx, r, did.steps, report)
	}
	return res, did, err
}

// prepare turns a request into the frontend's options and the steps' host.
// cleanup is to be called in any case.
func (b *Builder) prepare(r Request) (h *ops.Host, opts map[string]string, cleanup func(), err error) {
	h = &ops.Host{
		Layers: b.Layers, Images: b.Images, Runner: b.Runner, CacheDir: b.Layout.Cache(),
		Contexts: map[string]string{}, Secret: secrets(r.Secrets),
		Insecure: r.Insecure, HostNet: r.HostNet || r.Network == "host",
		ExtraHosts: r.ExtraHosts, ShmSize: r.ShmSize, Ulimits: r.Ulimits, Opened: new(ops.Contexts),
	}
	if n, err := strconv.ParseInt(r.Args["SOURCE_DATE_EPOCH"], 10, 64); err == nil {
		h.Epoch = time.Unix(n, 0).UTC()
	}
	opened := h.Opened
	undo := []func(){func() { _ = opened.Close() }}
	cleanup = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	if err := os.MkdirAll(h.CacheDir, 0o700); err != nil {
		return nil, nil, cleanup, err
	}
	var quit func()
	if h.SSH, quit, err = agents(r.SSH); err != nil {
		return nil, nil, cleanup, err
	}
	undo = append(undo, quit)
	dir, name, remove, err := locate(r, h)
	undo = append(undo, remove)
	if err != nil {
		return nil, nil, cleanup, err
	}
	opts = options(r, name)
	if dir != "" {
		h.Contexts["dockerfile"] = dir
		if Remote(r.Context) {
			opts["dockerfilekey"] = "dockerfile"
		}
	}
	if Remote(r.Context) {
		opts["context"] = r.Context
	}
	for n, where := range r.Contexts {
		addContext(h, opts, n, where)
	}
	return h, opts, cleanup, nil
}

// locate finds context and Dockerfile; dir is empty when the latter lies in a
// remote context.
func locate(r Request, h *ops.Host) (dir, name string, remove func(), err error) {
	if Remote(r.Context) {
		if r.Inline == "" && !filepath.IsAbs(r.Dockerfile) {
			if name = r.Dockerfile; name == "" {
				name = "Dockerfile"
			}
			return "", name, func() {}, nil
		}
		return dockerfile(r)
	}
	if st, err := os.Stat(r.Context); err != nil {
		return "", "", func() {}, fmt.Errorf("build context %s: %w", r.Context, err)
	} else if !st.IsDir() {
		return "", "", func() {}, fmt.Errorf("build context %s: not a directory", r.Context)
	}
	h.Contexts["context"] = r.Context
	return dockerfile(r)
}

// Remote says whether a context is a git or tarball URL, as docker build tells
// them from directories.
func Remote(where string) bool {
	for _, p := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(where, p) {
			return true
		}
	}
	return false
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
	o["image-resolve-mode"] = "local"
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
		case s.Value != nil:
			return s.Value, nil
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

// Image is what a built configuration tells of its image; created is when it
// counts as made.
func (r *Result) Image(created time.Time) (engine.Image, error) {
	var c struct {
		ocispecs.Platform
		Config  engine.ImageConfig `json:"config"`
		History []engine.History   `json:"history"`
	}
	if err := json.Unmarshal(r.Config, &c); err != nil {
		return engine.Image{}, fmt.Errorf("image configuration: %w", err)
	}
	for i, h := range c.History {
		if h.Created.IsZero() {
			c.History[i].Created = created
		}
	}
	return engine.Image{Created: created, OS: c.OS, Arch: c.Architecture, Variant: c.Variant,
		Config: c.Config, History: c.History, Layers: r.Layers}, nil
}
