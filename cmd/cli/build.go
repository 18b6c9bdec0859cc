package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/reconcile"
)

// buildOptions are the flags of build that change what is built.
type buildOptions struct {
	args                []string
	noCache, pull, deps bool
	quiet               bool
	progress            string
	ssh                 string
	check, push         bool
	platforms           bool // all that a service lists, not just the one that runs here
}

func newBuild(g *globals) *cobra.Command {
	var o buildOptions
	var ignored struct {
		builder, memory, provenance, sbom        string
		compress, forceRm, noRm, parallel, print bool
	}
	c := &cobra.Command{
		Use:   "build [OPTIONS] [SERVICE...]",
		Short: "Build or rebuild services",
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range []string{"print", "sbom", "provenance"} {
				if v := c.Flags().Lookup(name); v.Changed && v.Value.String() != "false" {
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
	f.BoolVar(&o.check, "check", false, "Check build configuration")
	f.BoolVar(&ignored.print, "print", false, "Print equivalent bake file")
	f.BoolVar(&o.push, "push", false, "Push service images")
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
	s, err := g.needQuiet(ctx, services, o.quiet)
	if err != nil {
		return err
	}
	defer s.close()
	if o.progress != "" && !o.quiet {
		s.progress = o.progress
	}
	if o.quiet {
		s.progress = render.Quiet
	}
	o.platforms = true
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
	switch {
	case o.check:
		return s.checkBuilds(ctx, steps)
	case s.dryRun:
		return render.Plan(s.out, steps)
	}
	if err := s.applyImages(ctx, "build", steps); err != nil || !o.push {
		return err
	}
	return s.pushBuilt(ctx, steps)
}

// checkBuilds lints the Dockerfiles of services and builds nothing.
func (s *session) checkBuilds(ctx context.Context, steps []reconcile.Step) error {
	clean := true
	for _, x := range steps {
		svc, err := s.project.Service(x.Do.(reconcile.BuildImage).Service)
		if err != nil {
			return err
		}
		r, err := s.host.request(svc)
		if err != nil {
			return err
		}
		text, _, ok, err := s.engine.AskDockerfile(ctx, r, build.CallCheck, local.RegistryOptions{Insecure: s.insecure})
		if err != nil {
			return fmt.Errorf("check %s: %w", svc.Name, err)
		}
		clean = clean && ok
		if _, err := s.out.Write(text); err != nil {
			return err
		}
	}
	if !clean {
		return errors.New("the check found mistakes")
	}
	return nil
}

func (s *session) pushBuilt(ctx context.Context, steps []reconcile.Step) error {
	for _, x := range steps {
		ref := x.Do.(reconcile.BuildImage).Ref
		digest, err := s.engine.Push(ctx, ref, local.RegistryOptions{Insecure: s.insecure})
		if err != nil {
			return err
		}
		s.say(" Image %s Pushed %s", ref, digest)
	}
	return nil
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
	if s.quietBuild {
		mode = render.Quiet
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
