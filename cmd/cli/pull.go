package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/registry"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

type pullOptions struct {
	transferOptions
	ignoreBuildable bool
	policy          string
}

func newPull(g *globals) *cobra.Command {
	var o pullOptions
	var ignored bool
	c := &cobra.Command{
		Use:   "pull [OPTIONS] [SERVICE...]",
		Short: "Pull service images",
		RunE: func(c *cobra.Command, args []string) error {
			return runPull(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.ignoreBuildable, "ignore-buildable", false, "Ignore images that can be built")
	o.flags(c, "pull", "Also pull services declared as dependencies", "Pull without printing progress information")
	f.StringVar(&o.policy, "policy", "", `Apply pull policy ("missing"|"always")`)
	f.BoolVar(&ignored, "parallel", true, "DEPRECATED pull multiple images in parallel")
	f.BoolVar(&ignored, "no-parallel", true, "DEPRECATED disable parallel pulling")
	_ = f.MarkHidden("parallel")
	_ = f.MarkHidden("no-parallel")
	return c
}

// runPull brings the images of the services, each once. A service that can be
// built need not be in a registry: its failure is told, and is none.
func runPull(ctx context.Context, g *globals, o pullOptions, services []string) error {
	switch o.policy {
	case "", "missing", "always":
	default:
		return fmt.Errorf("--policy %q: use one of missing, always", o.policy)
	}
	s, err := g.needQuiet(ctx, services, o.quiet)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observe(ctx); err != nil {
		return err
	}
	steps := s.pulls(o, services)
	if len(steps) == 0 {
		s.say("No images to pull")
		return nil
	}
	return s.apply(ctx, "pull", steps)
}

// pulls are the steps of pull: one an image, in the order of the services.
func (s *session) pulls(o pullOptions, services []string) []reconcile.Step {
	var steps []reconcile.Step
	seen := map[string]bool{}
	for _, name := range s.project.ServiceNames() {
		svc := s.project.Services[name]
		ref := s.project.ImageName(svc)
		if len(services) > 0 && !o.includeDeps && !slices.Contains(services, name) || seen[ref+" "+svc.Platform] {
			continue
		}
		if why := s.skipPull(o, svc, ref); why != "" {
			s.say(" Image %s Skipped %s", ref, why)
			continue
		}
		seen[ref+" "+svc.Platform] = true
		steps = append(steps, reconcile.Step{
			ID: len(steps) + 1, Why: "asked to pull",
			Do: reconcile.PullImage{Ref: ref, Platform: svc.Platform, Policy: "always", Optional: o.ignoreFailures || svc.Build != nil},
		})
	}
	return steps
}

// skipPull says why a service's image is not pulled, or "".
func (s *session) skipPull(o pullOptions, svc *project.Service, ref string) string {
	policy := svc.PullPolicy
	if o.policy != "" {
		policy = o.policy
	}
	switch {
	case svc.Provider != nil:
		return "(a provider's)"
	case svc.Image == "":
		return "(no image to be pulled)"
	case svc.Build != nil && o.ignoreBuildable:
		return "(image can be built)"
	case policy == "never" || policy == "build":
		return "(its pull_policy is " + policy + ")"
	case (policy == "missing" || policy == "if_not_present") && s.actual.Images[ref] != "":
		return "(image is already present locally)"
	}
	return ""
}

// PullImage brings an image to this host. What keeps it away is told with the
// line that asks for it.
func (h *host) PullImage(ctx context.Context, do reconcile.PullImage) error {
	if do.Policy != "always" && !reconcile.Refreshes(do.Policy) {
		found, err := h.Images(ctx, []string{do.Ref})
		if err != nil || found[do.Ref] != "" {
			return err
		}
	}
	if do.Policy == "never" {
		return h.mistake(do.Ref, "there is no image "+do.Ref+" on this host, and its pull policy is never",
			fmt.Sprintf("bring it with \"davit pull --policy missing\", \"davit load -i ARCHIVE\" or \"davit image import ROOTFS.tar %s\"", do.Ref))
	}
	o := local.RegistryOptions{Insecure: h.session.insecure}
	if d, ok := h.show.(render.Detailer); ok && !h.quiet {
		o.Progress = newTransfer(func(text string) { d.Detail("Image", do.Ref, text) }).report
	}
	_, err := h.Pull(ctx, do.Ref, do.Platform, o)
	var f *registry.Failure
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.As(err, &f):
		return h.mistake(do.Ref, f.Err.Error(), f.Fix)
	}
	return h.mistake(do.Ref, err.Error(), "")
}

func (h *host) mistake(ref, what, fix string) error {
	m := &project.Error{What: what, Fix: fix}
	h.locate(m, ref)
	return m
}
