package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// A checker looks whether a merged model holds together, as the library's own
// check does (loader/validate.go of compose-go v2.16.2), but in linear time,
// with every mistake found and each with its line.
type checker struct {
	p     *types.Project
	index *source.Index
	errs  project.Errors
}

// check returns all mistakes of the model. As the library's, it also lets
// scale decide deploy.replicas.
func check(p *types.Project, index *source.Index) project.Errors {
	c := &checker{p: p, index: index}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		for _, look := range []func(*types.ServiceConfig){
			c.image, c.build, c.networks, c.probe, c.dependencies, c.namespaces,
			c.references, c.counts, c.limits, c.storage, c.watch, c.targets, c.ports, c.words,
		} {
			look(&s)
		}
		p.Services[name] = s
	}
	c.jobs()
	c.files()
	c.resources()
	c.names()
	c.cycles()
	return c.errs
}

// wrong notes a mistake at a key path.
func (c *checker) wrong(key, fix, format string, args ...any) {
	c.errs = append(c.errs, wrongAt(c.index, key, fix, format, args...))
}

func wrongAt(index *source.Index, key, fix, format string, args ...any) *project.Error {
	at, ok := index.Find(key)
	if !ok {
		e := &project.Error{Key: key, What: fmt.Sprintf(format, args...), Fix: fix}
		if len(index.Files) > 0 {
			e.File = index.Files[0].Name
		}
		return e
	}
	n := at.Node()
	if at.Exact && at.Value.Kind == yaml.ScalarNode {
		n = at.Value
	}
	return at.File.Wrong(n, strings.Split(key, "."), fix, format, args...)
}

func key(s *types.ServiceConfig, rest ...string) string {
	return strings.Join(append([]string{"services", s.Name}, rest...), ".")
}

// near suggests which of the names was meant.
func near[V any](name string, among map[string]V) string {
	if n := nearestOf(name, slices.Sorted(maps.Keys(among))); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return ""
}

// or is the first text that is not empty.
func or(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func (c *checker) image(s *types.ServiceConfig) {
	if s.Build == nil && s.Image == "" && s.Provider == nil {
		c.wrong(key(s), "add image: or build:", "service %q has neither an image nor a build context specified", s.Name)
	}
}

func (c *checker) build(s *types.ServiceConfig) {
	b := s.Build
	if b == nil {
		return
	}
	if b.DockerfileInline != "" && b.Dockerfile != "" {
		c.wrong(key(s, "build", "dockerfile_inline"), "keep one of the two", "dockerfile and dockerfile_inline are mutually exclusive")
	}
	for _, name := range slices.Sorted(maps.Keys(b.AdditionalContexts)) {
		target, ok := strings.CutPrefix(b.AdditionalContexts[name], types.ServicePrefix)
		if !ok {
			continue
		}
		at := key(s, "build", "additional_contexts", name)
		t, known := c.any(target)
		switch {
		case !known:
			c.wrong(at, near(target, c.p.Services), "service %q, whose image is wanted as a context, is not there", target)
		case t.Build == nil:
			c.wrong(at, "give that service a build section, or use docker-image://"+t.Image, "service %q, whose image is wanted as a context, has no build section", target)
		}
	}
	if len(b.Platforms) > 0 && s.Platform != "" && !slices.Contains(b.Platforms, s.Platform) {
		c.wrong(key(s, "build", "platforms"), "add "+s.Platform+" to them", "do not include the service's own platform %q", s.Platform)
	}
	for i, secret := range b.Secrets {
		if _, ok := c.p.Secrets[secret.Source]; !ok {
			c.wrong(key(s, "build", "secrets", fmt.Sprint(i)), or(near(secret.Source, c.p.Secrets), "define it under the top-level secrets:"),
				"refers to undefined build secret %q", secret.Source)
		}
	}
}

// any is a service, whether its profiles are active or not.
func (c *checker) any(name string) (types.ServiceConfig, bool) {
	if s, ok := c.p.Services[name]; ok {
		return s, true
	}
	s, ok := c.p.DisabledServices[name]
	return s, ok
}

func (c *checker) networks(s *types.ServiceConfig) {
	if s.NetworkMode != "" && len(s.Networks) > 0 {
		c.wrong(key(s, "network_mode"), "keep one of the two", "network_mode and networks are mutually exclusive")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		if _, ok := c.p.Networks[name]; !ok {
			c.wrong(key(s, "networks", name), or(near(name, c.p.Networks), "define it under the top-level networks:"), "refers to undefined network %q", name)
		}
		c.addresses(s, name, s.Networks[name])
	}
}

func (c *checker) probe(s *types.ServiceConfig) {
	if s.HealthCheck == nil || len(s.HealthCheck.Test) == 0 {
		return
	}
	switch s.HealthCheck.Test[0] {
	case "CMD", "CMD-SHELL", "NONE":
	default:
		c.wrong(key(s, "healthcheck", "test"), `put "CMD" before it, or write the command as one string`, `must start either by "CMD", "CMD-SHELL" or "NONE", not %q`, s.HealthCheck.Test[0])
	}
}

func (c *checker) dependencies(s *types.ServiceConfig) {
	for _, name := range slices.Sorted(maps.Keys(s.DependsOn)) {
		d := s.DependsOn[name]
		if _, active := c.p.Services[name]; active {
			if d.Condition == "" {
				c.wrong(key(s, "depends_on", name), "add condition: service_started", "condition is missing")
			}
			continue
		}
		other, disabled := c.p.DisabledServices[name]
		if disabled && !d.Required {
			continue
		}
		at := c.needs(s, name)
		_, job := c.p.AllJobs()[name]
		switch {
		case job:
			c.wrong(at, "let the job depend on the service instead", "service %q cannot depend on job %q: services can only depend on other services", s.Name, name)
		case disabled:
			c.wrong(at, fmt.Sprintf("activate it with --profile %s, or say required: false", or(append(slices.Clone(other.Profiles), "*")...)),
				"service %q depends on undefined service %q: its profiles are not active", s.Name, name)
		default:
			c.wrong(at, near(name, c.p.Services), "service %q depends on undefined service %q", s.Name, name)
		}
	}
}

// needs is the key by which a service needs another: depends_on, or what the
// loader has turned into it.
func (c *checker) needs(s *types.ServiceConfig, name string) string {
	if at := key(s, "depends_on", name); c.written(at) {
		return at
	}
	for i, l := range s.Links {
		if target, _, _ := strings.Cut(l, ":"); target == name {
			return key(s, "links", fmt.Sprint(i))
		}
	}
	for i, v := range s.VolumesFrom {
		if target, _, _ := strings.Cut(v, ":"); target == name {
			return key(s, "volumes_from", fmt.Sprint(i))
		}
	}
	for k, mode := range map[string]string{"network_mode": s.NetworkMode, "ipc": s.Ipc, "pid": s.Pid, "uts": s.Uts, "cgroup": s.Cgroup} {
		if mode == types.ServicePrefix+name {
			return key(s, k)
		}
	}
	// depends_on as a list: point at the item.
	at, ok := c.index.Find(key(s, "depends_on"))
	if ok && at.Exact && at.Value.Kind == yaml.SequenceNode {
		for i, item := range at.Value.Content {
			if item.Value == name {
				return key(s, "depends_on", fmt.Sprint(i))
			}
		}
	}
	return key(s, "depends_on")
}

func (c *checker) written(at string) bool {
	p, ok := c.index.Find(at)
	return ok && p.Exact
}

// namespaces need no look of their own at network_mode: the loader has made a
// dependency of it, unless normalisation was switched off.
func (c *checker) namespaces(s *types.ServiceConfig) {
	name, ok := strings.CutPrefix(s.NetworkMode, types.ServicePrefix)
	if _, depends := s.DependsOn[name]; !ok || depends {
		return
	}
	if _, known := c.p.Services[name]; !known {
		c.wrong(key(s, "network_mode"), near(name, c.p.Services), "service %q not found for network_mode 'service:%s'", name, name)
	}
}

func (c *checker) references(s *types.ServiceConfig) {
	for i, v := range s.Volumes {
		if _, ok := c.p.Volumes[v.Source]; !ok && v.Type == types.VolumeTypeVolume && v.Source != "" {
			c.wrong(key(s, "volumes", fmt.Sprint(i)), or(near(v.Source, c.p.Volumes), "define it under the top-level volumes:, or write ./"+v.Source+" for a directory"),
				"refers to undefined volume %q", v.Source)
		}
	}
	for i, f := range s.Configs {
		if _, ok := c.p.Configs[f.Source]; !ok {
			c.wrong(key(s, "configs", fmt.Sprint(i)), or(near(f.Source, c.p.Configs), "define it under the top-level configs:"), "refers to undefined config %q", f.Source)
		}
	}
	for i, f := range s.Secrets {
		if _, ok := c.p.Secrets[f.Source]; !ok {
			c.wrong(key(s, "secrets", fmt.Sprint(i)), or(near(f.Source, c.p.Secrets), "define it under the top-level secrets:"), "refers to undefined secret %q", f.Source)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Models)) {
		if _, ok := c.p.Models[name]; !ok {
			c.wrong(key(s, "models", name), or(near(name, c.p.Models), "define it under the top-level models:"), "refers to undefined model %q", name)
		}
	}
}
