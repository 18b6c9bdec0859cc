package desired

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/order"
	"github.com/davit-run/davit/reconcile"
)

// Options vary what a project asks for without changing its files.
type Options struct {
	Scale   map[string]int // --scale, over the files' own counts
	Version string         // of davit, for the version label

	// ReadFile reads the content of secrets and configs; nil: os.ReadFile.
	ReadFile func(path string) ([]byte, error)
	// Key makes the digests of secrets' contents: without it nobody can try
	// out which content a digest belongs to.
	Key []byte
}

// From returns what p asks of the host. Errors are project.Errors, each with
// its line.
func From(p *project.Project, o Options) (reconcile.Desired, error) {
	b := newBuilder(p, o)
	names, err := startOrder(p)
	if err != nil {
		return reconcile.Desired{}, err
	}
	b.networks()
	b.volumes()
	for _, name := range names {
		b.service(p.Services[name])
	}
	b.out.Services = slices.Sorted(maps.Keys(p.AllServices()))
	if len(b.errs) > 0 {
		return reconcile.Desired{}, b.errs
	}
	return b.out, nil
}

// Spec is the definition of one service's containers, as `run` needs it to
// make a one-off of it, with the contents of its files by FileMount.Key.
func Spec(p *project.Project, s *project.Service, o Options) (engine.Spec, map[string][]byte, error) {
	b := newBuilder(p, o)
	spec := b.spec(s)
	if len(b.errs) > 0 {
		return engine.Spec{}, nil, b.errs
	}
	return spec, b.out.Contents, nil
}

// A builder collects what is asked for and every mistake on the way.
type builder struct {
	p    *project.Project
	o    Options
	out  reconcile.Desired
	errs project.Errors
	refs map[string]bool // images already asked for
}

func newBuilder(p *project.Project, o Options) *builder {
	if o.ReadFile == nil {
		o.ReadFile = os.ReadFile
	}
	return &builder{
		p: p, o: o, refs: map[string]bool{},
		out: reconcile.Desired{Project: p.Name, Contents: map[string][]byte{}},
	}
}

// wrong notes a mistake at a key path.
func (b *builder) wrong(key, fix, format string, args ...any) {
	b.errs = append(b.errs, b.p.Wrong(key, fix, format, args...))
}

func (b *builder) origin(key string) string {
	at := b.p.Origin(key)
	at.Column = 0
	return at.String()
}

func startOrder(p *project.Project) ([]string, error) {
	needs := make(map[string][]string, len(p.Services))
	for name, s := range p.Services {
		needs[name] = slices.Collect(maps.Keys(s.DependsOn))
	}
	return order.Sort(needs)
}

func (b *builder) service(s *project.Service) {
	if s.Provider != nil {
		return // the loader has warned that nothing is started for it
	}
	spec := b.spec(s)
	b.image(s)
	c := reconcile.Container{
		Service: s.Name,
		Spec:    spec,
		Hash:    s.Hash,
		After:   b.after(s),
		Once:    yes(s.Extensions["x-once"]),
		Origin:  b.origin("services." + s.Name),
		Joins:   joins(s),
	}
	count := b.replicas(s)
	if count == 0 {
		b.out.Empty = append(b.out.Empty, s.Name)
	}
	for n := 1; n <= count; n++ {
		c.Number = n
		c.Name = containerName(b.p, s, n)
		c.PreStart = b.preStart(s, c)
		b.out.Containers = append(b.out.Containers, c)
	}
}

func (b *builder) replicas(s *project.Service) int {
	n, asked := b.o.Scale[s.Name]
	if !asked {
		return s.Replicas()
	}
	if n > 1 && s.ContainerName != "" {
		b.wrong("services."+s.Name+".container_name", "take container_name away, or keep one container",
			"cannot be scaled to %d: a container name is unique", n)
	}
	return n
}

// containerName is PROJECT-SERVICE-N, or the fixed name.
func containerName(p *project.Project, s *project.Service, n int) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}
	sep := "-"
	if p.Compatibility {
		sep = "_"
	}
	return fmt.Sprintf("%s%s%s%s%d", p.Name, sep, s.Name, sep, n)
}

func (b *builder) after(s *project.Service) []reconcile.Dependency {
	var out []reconcile.Dependency
	for _, name := range slices.Sorted(maps.Keys(s.DependsOn)) {
		if other, active := b.p.Services[name]; !active || other.Provider != nil {
			continue
		}
		d := s.DependsOn[name]
		out = append(out, reconcile.Dependency{
			Service: name, Condition: d.Condition, Optional: !d.Required, Restart: d.Restart,
		})
	}
	return out
}

// joins are the services whose namespaces the containers share.
func joins(s *project.Service) []string {
	var out []string
	for _, mode := range []string{s.NetworkMode, s.Ipc, s.Pid} {
		if name, ok := strings.CutPrefix(mode, "service:"); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func (b *builder) image(s *project.Service) {
	ref := b.p.ImageName(s)
	if b.refs[ref+" "+s.Platform] {
		b.buildToo(ref, s)
		return
	}
	b.refs[ref+" "+s.Platform] = true
	policy := s.PullPolicy
	if policy == "if_not_present" {
		policy = "missing"
	}
	b.out.Images = append(b.out.Images, reconcile.Image{
		Ref: ref, Service: s.Name, Build: s.Build != nil,
		PullPolicy: policy, RefreshAfter: b.refreshAfter(s), Platform: s.Platform,
		Origin: b.origin("services." + s.Name + ".image"),
	})
	b.imageMounts(s)
	for _, h := range s.PreStart {
		if h.Image != "" {
			b.image(inherit(s, h))
		}
	}
}

// buildToo makes an image that another service only names one that is built,
// when this service has the build section.
func (b *builder) buildToo(ref string, s *project.Service) {
	for i := range b.out.Images {
		img := &b.out.Images[i]
		if img.Ref == ref && img.Platform == s.Platform && !img.Build && s.Build != nil {
			img.Build, img.Service = true, s.Name
		}
	}
}

func (b *builder) imageMounts(s *project.Service) {
	for _, v := range s.Volumes {
		if v.Type != engine.MountImage || b.refs[v.Source+" "] {
			continue
		}
		b.refs[v.Source+" "] = true
		b.out.Images = append(b.out.Images, reconcile.Image{
			Ref: v.Source, Service: s.Name, Origin: b.origin("services." + s.Name + ".volumes"),
		})
	}
}

// yes reads an extension that is a switch.
func yes(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		return v == "true"
	}
	return false
}
