package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// buildOptions are the flags of build that change what is built.
type buildOptions struct {
	args                []string
	noCache, pull, deps bool
	quiet               bool
	progress            string
	ssh                 string
}

func newBuild(g *globals) *cobra.Command {
	var o buildOptions
	var ignored struct {
		builder, memory, provenance, sbom                     string
		check, compress, forceRm, noRm, parallel, print, push bool
	}
	c := &cobra.Command{
		Use:   "build [OPTIONS] [SERVICE...]",
		Short: "Build or rebuild services",
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range []string{"check", "print", "push", "memory", "sbom", "provenance"} {
				if c.Flags().Changed(name) {
					return fmt.Errorf("build --%s is not something davit does", name)
				}
			}
			return runBuild(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.args, "build-arg", nil, "Set build-time variables for services")
	f.BoolVar(&o.noCache, "no-cache", false, "Do not use cache when building the image")
	f.BoolVar(&o.pull, "pull", false, "Always attempt to pull a newer version of the image")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the build output")
	f.BoolVar(&o.deps, "with-dependencies", false, "Also build dependencies (transitively)")
	f.StringVar(&o.ssh, "ssh", "", "Set SSH authentications used when building service images. (use 'default' for using your default SSH Agent)")
	f.StringVar(&o.progress, "progress", "", "Set type of ui output (auto, tty, plain, json, quiet)")
	f.StringVar(&ignored.builder, "builder", "", "Set builder to use")
	f.StringVarP(&ignored.memory, "memory", "m", "", "Set memory limit for the build container. Not supported by BuildKit.")
	f.StringVar(&ignored.provenance, "provenance", "", "Add a provenance attestation")
	f.StringVar(&ignored.sbom, "sbom", "", "Add a SBOM attestation")
	f.BoolVar(&ignored.check, "check", false, "Check build configuration")
	f.BoolVar(&ignored.print, "print", false, "Print equivalent bake file")
	f.BoolVar(&ignored.push, "push", false, "Push service images")
	f.BoolVar(&ignored.compress, "compress", true, "Compress the build context using gzip. DEPRECATED")
	f.BoolVar(&ignored.forceRm, "force-rm", true, "Always remove intermediate containers. DEPRECATED")
	f.BoolVar(&ignored.noRm, "no-rm", false, "Do not remove intermediate containers after a successful build. DEPRECATED")
	f.BoolVar(&ignored.parallel, "parallel", true, "Build images in parallel. DEPRECATED")
	for _, name := range []string{"progress", "compress", "force-rm", "no-rm", "parallel"} {
		_ = f.MarkHidden(name)
	}
	return c
}

// runBuild builds the images of the services that have a build section.
func runBuild(ctx context.Context, g *globals, o buildOptions, services []string) error {
	s, err := g.need(ctx, services, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if o.progress != "" {
		s.progress = o.progress
	}
	if o.quiet {
		s.progress = render.Quiet
	}
	s.host.build = o
	var steps []reconcile.Step
	for _, i := range s.desired.Images {
		if !i.Build || len(services) > 0 && !o.deps && !slices.Contains(services, i.Service) {
			continue
		}
		steps = append(steps, reconcile.Step{ID: len(steps) + 1, Do: reconcile.BuildImage{Service: i.Service, Ref: i.Ref}, Why: "asked to build"})
	}
	if len(steps) == 0 {
		s.say("No services to build")
		return nil
	}
	if s.dryRun {
		return render.Plan(s.out, steps)
	}
	return s.applyImages(ctx, "build", steps)
}

// applyImages runs image steps. On a terminal the builds' own progress is
// shown in the place of the plan's.
func (s *session) applyImages(ctx context.Context, verb string, steps []reconcile.Step) error {
	builds := slices.ContainsFunc(steps, func(x reconcile.Step) bool {
		_, ok := x.Do.(reconcile.BuildImage)
		return ok
	})
	if !builds {
		return s.apply(ctx, verb, steps)
	}
	mode := s.progress
	if mode == "" {
		mode = render.Auto
	}
	shown := mode
	if mode == render.Auto && isTerminal(s.globals.err) {
		shown = render.Quiet
	}
	if mode == render.TTY {
		shown = render.Quiet
	}
	show, err := render.NewProgress(shown, verb, s.globals.err, s.colour(s.globals.err))
	if err != nil {
		return err
	}
	defer show.Close()
	if s.host.display, err = build.NewDisplay(s.globals.err, mode); err != nil {
		return err
	}
	err = s.run(ctx, steps, show.Report)
	s.host.display.Close()
	s.host.display = nil
	if shown == render.Quiet && mode != render.Quiet && err == nil {
		s.tellBuilt(steps)
	}
	return err
}

func (s *session) tellBuilt(steps []reconcile.Step) {
	for _, x := range steps {
		if b, ok := x.Do.(reconcile.BuildImage); ok {
			s.say(" Image %s Built", b.Ref)
		}
	}
}

// BuildImage builds a service's image as its build section says.
func (h *host) BuildImage(ctx context.Context, do reconcile.BuildImage) error {
	svc, err := h.session.project.Service(do.Service)
	if err != nil {
		return err
	}
	r, err := h.request(svc)
	if err != nil {
		return err
	}
	names := append([]string{do.Ref}, svc.Build.Tags...)
	d := h.display
	if d == nil {
		_, err = h.Engine.Build(ctx, r, names, nil)
		return err
	}
	if _, err = h.Engine.Build(ctx, r, names, d.Report); err != nil {
		return d.Explain(err)
	}
	return nil
}

// request is a build section as the builder takes it, with the flags of build
// over it.
func (h *host) request(svc *project.Service) (build.Request, error) {
	b := svc.Build
	r := build.Request{
		Context: b.Context, Dockerfile: b.Dockerfile, Inline: b.DockerfileInline, Contexts: b.AdditionalContexts,
		Args: map[string]string{}, Labels: b.Labels, Target: b.Target, Platform: svc.Platform,
		NoCache: b.NoCache || h.build.noCache, NoCacheFor: b.NoCacheFilter, Pull: b.Pull || h.build.pull,
		Network: b.Network, ShmSize: b.ShmSize, Secrets: map[string]build.SecretSource{}, SSH: map[string]string{},
		Insecure: b.Privileged || slices.Contains(b.Entitlements, "security.insecure"),
		HostNet:  b.Network == "host" || slices.Contains(b.Entitlements, "network.host"),
		Parallel: max(h.session.parallel, 0),
	}
	for name, value := range b.Args {
		if value != nil {
			r.Args[name] = *value
		} else if v, ok := h.session.project.Environment[name]; ok {
			r.Args[name] = v
		}
	}
	for _, a := range h.build.args {
		name, value, given := strings.Cut(a, "=")
		if !given {
			if value, given = os.LookupEnv(name); !given {
				continue
			}
		}
		r.Args[name] = value
	}
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
	return r, h.buildSecrets(b, r.Secrets)
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
	}
	return nil
}
