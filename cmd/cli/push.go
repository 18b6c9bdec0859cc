package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/local"
)

type pushOptions struct {
	transferOptions
	ignoreMissing bool
}

func newPush(g *globals) *cobra.Command {
	var o pushOptions
	c := &cobra.Command{
		Use:   "push [OPTIONS] [SERVICE...]",
		Short: "Push service images",
		RunE: func(c *cobra.Command, args []string) error {
			return runPush(c.Context(), g, o, args)
		},
	}
	o.flags(c, "push", "Also push images of services declared as dependencies", "Push without printing progress information")
	c.Flags().BoolVar(&o.ignoreMissing, "ignore-missing", false, "Skip images that are not available locally instead of failing to push them")
	_ = c.Flags().MarkHidden("ignore-push-failures")
	return c
}

// runPush sends the images of the services that have a build section, as
// docker compose does, with the further tags of that section.
func runPush(ctx context.Context, g *globals, o pushOptions, services []string) error {
	s, err := g.needQuiet(ctx, services, o.quiet)
	if err != nil {
		return err
	}
	defer s.close()
	show, err := s.progressFor("push")
	if err != nil {
		return err
	}
	defer show.Close()
	var failed []error
	for _, ref := range s.pushed(o, services) {
		if s.dryRun {
			fmt.Fprintln(s.out, "push image", ref)
			continue
		}
		err := s.push(ctx, show, ref)
		if errors.Is(err, image.ErrNotFound) && o.ignoreMissing {
			err = nil
		}
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil && !o.ignoreFailures {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// pushed are the names that push sends, each once.
func (s *session) pushed(o pushOptions, services []string) []string {
	var refs []string
	for _, name := range s.project.ServiceNames() {
		svc := s.project.Services[name]
		if svc.Build == nil || len(services) > 0 && !o.includeDeps && !slices.Contains(services, name) {
			continue
		}
		if svc.Image == "" {
			s.say("davit: warning: service %s has no image name: it is not pushed", name)
			continue
		}
		for _, ref := range append([]string{svc.Image}, svc.Build.Tags...) {
			if !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// push sends one image and shows how it comes along.
func (s *session) push(ctx context.Context, show render.Progress, ref string) error {
	return s.carry(show, "push", ref, func(o local.RegistryOptions) error {
		_, err := s.engine.Push(ctx, ref, o)
		return err
	})
}
