package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// Labels that docker compose puts on the images it builds.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelVersion = "com.docker.compose.version"
)

// built are the images of one command, or of one batch of a watcher: services with the same inputs share
// one, and one that another needs as a context is not built twice.
type built struct {
	mu   sync.Mutex
	by   map[[32]byte]*result
	todo map[string]*result // by service
}

type result struct {
	once sync.Once
	id   string
	err  error
}

func (b *built) service(name string) *result {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.todo == nil {
		b.todo = map[string]*result{}
	}
	if b.todo[name] == nil {
		b.todo[name] = new(result)
	}
	return b.todo[name]
}

// forget has everything built anew: its files have changed.
func (b *built) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.by, b.todo = nil, nil
}

func (b *built) inputs(r build.Request) *result {
	r.Local, r.CacheFrom, r.Labels = nil, nil, maps.Clone(r.Labels)
	delete(r.Labels, labelService) // the first of them stands for all
	text, _ := json.Marshal(r)
	key := sha256.Sum256(text)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by == nil {
		b.by = map[[32]byte]*result{}
	}
	if b.by[key] == nil {
		b.by[key] = new(result)
	}
	return b.by[key]
}

// BuildImage builds a service's image as its build section says.
func (h *host) BuildImage(ctx context.Context, do reconcile.BuildImage) error {
	return h.buildService(ctx, do.Service, do.Ref)
}

// buildService builds a service's image, and before it those that it takes as
// contexts.
func (h *host) buildService(ctx context.Context, name, ref string) error {
	// Before anything waits: two builds that wait for each other would for good.
	if circle := h.contextCircle(name, nil); circle != nil {
		return fmt.Errorf("services %s need each other's images as build contexts", strings.Join(circle, " -> "))
	}
	r := h.built.service(name)
	r.once.Do(func() { r.err = h.buildOnce(ctx, name, ref) })
	return r.err
}

// contextCircle is the circle that a service comes to by its build contexts;
// nil when there is none. way are the services that led here.
func (h *host) contextCircle(name string, way []string) []string {
	if at := slices.Index(way, name); at >= 0 {
		return append(slices.Clone(way[at:]), name)
	}
	svc, err := h.service(name)
	if err != nil || svc.Build == nil {
		return nil
	}
	for _, where := range svc.Build.AdditionalContexts {
		if next, ok := strings.CutPrefix(where, "service:"); ok {
			if circle := h.contextCircle(next, append(slices.Clone(way), name)); circle != nil {
				return circle
			}
		}
	}
	return nil
}

// service finds a service to build, whether the command asked for it or another
// one takes it as a context.
func (h *host) service(name string) (*project.Service, error) {
	if svc := h.session.project.AllServices()[name]; svc != nil {
		return svc, nil
	}
	return h.session.project.Service(name)
}

func (h *host) buildOnce(ctx context.Context, name, ref string) error {
	svc, err := h.service(name)
	if err != nil {
		return err
	}
	r, err := h.request(svc)
	if err != nil {
		return err
	}
	if err := h.serviceContexts(ctx, &r); err != nil {
		return err
	}
	names := append([]string{ref}, svc.Build.Tags...)
	if err := h.buildShared(ctx, r, names); err != nil || !h.build.platforms {
		return err
	}
	return h.buildOthers(ctx, svc, r, names)
}

// buildShared builds an image, or tags the one that another service with the
// same inputs has built.
func (h *host) buildShared(ctx context.Context, r build.Request, names []string) error {
	res := h.built.inputs(r)
	var tagged bool
	res.once.Do(func() {
		tagged = true
		res.id, res.err = h.buildNow(ctx, r, names)
	})
	if res.err != nil || tagged {
		return res.err
	}
	for _, n := range names {
		if err := h.ImageStore().Tag(res.id, n); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) buildNow(ctx context.Context, r build.Request, names []string) (string, error) {
	o := local.RegistryOptions{Insecure: h.session.insecure}
	d := h.display
	if d == nil {
		img, err := h.Engine.Build(ctx, r, names, o, nil)
		return img.ID, err
	}
	img, err := h.Engine.Build(ctx, r, names, o, d.Report)
	if err != nil {
		return "", d.Explain(err)
	}
	return img.ID, nil
}

// serviceContexts builds the services that are named as contexts, and puts
// their images in the place of their names.
func (h *host) serviceContexts(ctx context.Context, r *build.Request) error {
	for name, where := range r.Contexts {
		service, ok := strings.CutPrefix(where, "service:")
		if !ok {
			continue
		}
		other, err := h.service(service)
		if err != nil {
			return fmt.Errorf("build context %s: %w", name, err)
		}
		ref := h.session.project.ImageName(other)
		if other.Build != nil {
			if err := h.buildService(ctx, service, ref); err != nil {
				return err
			}
		}
		img, err := h.ImageStore().Resolve(ref)
		if err != nil {
			return fmt.Errorf("build context %s: %w", name, err)
		}
		// By its id, so that the image's content shapes the cache key.
		r.Contexts[name] = "docker-image://" + img.Names[0]
		r.Local = append(r.Local, img.Names...)
	}
	return nil
}

// labelled is the service that an image is labelled with: of those that are
// built alike, and so share one image, the first by name, whichever is built.
func (h *host) labelled(svc *project.Service) string {
	alike := func(b project.Build) project.Build {
		b.Tags, b.CacheFrom, b.CacheTo, b.SBOM, b.Provenance = nil, nil, nil, "", ""
		return b
	}
	first, want := svc.Name, alike(*svc.Build)
	for name, other := range h.session.project.AllServices() {
		if name < first && other.Build != nil && other.Platform == svc.Platform && reflect.DeepEqual(alike(*other.Build), want) {
			first = name
		}
	}
	return first
}

// request is a build section as the builder takes it, with the flags of build
// over it.
func (h *host) request(svc *project.Service) (build.Request, error) {
	b := svc.Build
	r := build.Request{
		Context: b.Context, Dockerfile: b.Dockerfile, Inline: b.DockerfileInline, Contexts: map[string]string{},
		Args: map[string]string{}, Labels: map[string]string{}, Target: b.Target, Platform: buildPlatform(svc),
		NoCache: b.NoCache || h.build.noCache, NoCacheFor: b.NoCacheFilter, Pull: b.Pull || h.build.pull,
		Network: b.Network, ShmSize: b.ShmSize, Secrets: map[string]build.SecretSource{}, SSH: map[string]string{},
		Insecure: b.Privileged || slices.Contains(b.Entitlements, "security.insecure"),
		HostNet:  b.Network == "host" || slices.Contains(b.Entitlements, "network.host"),
		Parallel: max(h.session.parallel, 0),
	}
	for name, where := range b.AdditionalContexts {
		if !strings.Contains(where, ":") && !filepath.IsAbs(where) {
			where = filepath.Join(h.session.project.WorkingDir, where)
		}
		r.Contexts[name] = where
	}
	for k, v := range b.Labels {
		r.Labels[k] = v
	}
	r.Labels[labelProject], r.Labels[labelService], r.Labels[labelVersion] = h.session.name, h.labelled(svc), ComposeVersion
	h.buildArgs(b, r.Args)
	for host, addresses := range b.ExtraHosts {
		for _, a := range addresses {
			r.ExtraHosts = append(r.ExtraHosts, host+":"+a)
		}
	}
	slices.Sort(r.ExtraHosts)
	r.Ulimits = buildUlimits(b.Ulimits)
	for _, key := range b.SSH {
		r.SSH[key.ID] = agent(key.Path)
	}
	if h.build.ssh != "" {
		id, path, _ := strings.Cut(h.build.ssh, "=")
		r.SSH[id] = agent(path)
	}
	if err := h.caches(svc, &r); err != nil {
		return r, err
	}
	return r, h.buildSecrets(b, r.Secrets)
}

// caches reads cache_from and cache_to; kinds that only other builders have are
// passed over.
func (h *host) caches(svc *project.Service, r *build.Request) error {
	for _, x := range []struct {
		key  string
		list []string
		into *[]build.Cache
	}{{"cache_from", svc.Build.CacheFrom, &r.CacheFrom}, {"cache_to", svc.Build.CacheTo, &r.CacheTo}} {
		for _, text := range x.list {
			c, err := build.ParseCache(text, h.session.project.WorkingDir)
			if errors.Is(err, build.ErrCacheKind) {
				h.buildWarning(svc, x.key, "is not honoured: "+err.Error())
				continue
			}
			if err != nil {
				return fmt.Errorf("services.%s.build.%s: %w", svc.Name, x.key, err)
			}
			*x.into = append(*x.into, c)
		}
	}
	return nil
}

func (h *host) buildWarning(svc *project.Service, key, text string) {
	h.session.warn("services."+svc.Name+".build."+key, text)
}

func (h *host) buildArgs(b *project.Build, into map[string]string) {
	for name, value := range b.Args {
		if value != nil {
			into[name] = *value
		} else if v, ok := h.session.project.Environment[name]; ok {
			into[name] = v
		}
	}
	proxyArgs(into)
	for _, a := range h.build.args {
		addArg(into, a, h.session.project.Environment)
	}
}

// addArg reads one NAME=VALUE, or a NAME whose value is the environment's.
func addArg(into map[string]string, arg string, env map[string]string) {
	name, value, given := strings.Cut(arg, "=")
	if !given {
		if value, given = env[name]; !given {
			value, given = os.LookupEnv(name)
		}
	}
	if given {
		into[name] = value
	}
}

// proxyArgs adds the proxies of docker's config.json, as docker build does: one
// of the shell's does not become part of a build by itself.
func proxyArgs(into map[string]string) {
	b, err := os.ReadFile(filepath.Join(local.ConfigDir(), "config.json"))
	if err != nil {
		return
	}
	var c struct {
		Proxies map[string]struct{ HTTPProxy, HTTPSProxy, NoProxy, FTPProxy, AllProxy string }
	}
	if json.Unmarshal(b, &c) != nil {
		return
	}
	p := c.Proxies["default"]
	for name, v := range map[string]string{"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy, "NO_PROXY": p.NoProxy, "FTP_PROXY": p.FTPProxy, "ALL_PROXY": p.AllProxy} {
		for _, n := range []string{name, strings.ToLower(name)} {
			if _, given := into[n]; !given && v != "" {
				into[n] = v
			}
		}
	}
}

func agent(path string) string {
	if path == "" {
		return os.Getenv("SSH_AUTH_SOCK")
	}
	return path
}

func buildUlimits(all map[string]*project.Ulimit) []engine.Ulimit {
	var out []engine.Ulimit
	for name, u := range all {
		l := engine.Ulimit{Name: name, Soft: int64(u.Soft), Hard: int64(u.Hard)}
		if u.Single != 0 {
			l.Soft, l.Hard = int64(u.Single), int64(u.Single)
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b engine.Ulimit) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (h *host) buildSecrets(b *project.Build, into map[string]build.SecretSource) error {
	for _, use := range b.Secrets {
		f := h.session.project.Secrets[use.Source]
		if f == nil {
			return fmt.Errorf("build secret %s is not declared in the files", use.Source)
		}
		id := use.Target
		if id == "" {
			id = use.Source
		}
		into[id] = build.SecretSource{File: f.File, Env: f.Environment}
		if f.Content != "" {
			into[id] = build.SecretSource{Value: []byte(f.Content)}
		}
	}
	return nil
}
