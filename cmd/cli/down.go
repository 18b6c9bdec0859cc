package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/reconcile"
)

type downOptions struct {
	removeOrphans, volumes bool
	images                 string
	timeout                int
	timeoutSet             bool
}

func newDown(g *globals) *cobra.Command {
	var o downOptions
	c := &cobra.Command{
		Use:   "down [OPTIONS] [SERVICES]",
		Short: "Stop and remove containers, networks",
		RunE: func(c *cobra.Command, args []string) error {
			o.timeoutSet = c.Flags().Changed("timeout")
			return runDown(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.removeOrphans, "remove-orphans", envBool("COMPOSE_REMOVE_ORPHANS", false), "Remove containers for services not defined in the Compose file")
	f.BoolVarP(&o.volumes, "volumes", "v", false, `Remove named volumes declared in the "volumes" section of the Compose file and anonymous volumes attached to containers`)
	f.StringVar(&o.images, "rmi", "", `Remove images used by services. "local" remove only images that don't have a custom tag ("local"|"all")`)
	f.IntVarP(&o.timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	return c
}

// runDown stops and removes what the project has, and ends its keeper.
func runDown(ctx context.Context, g *globals, o downOptions, services []string) error {
	switch o.images {
	case "", "local", "all":
	default:
		return fmt.Errorf("invalid value for --rmi: %q: use local or all", o.images)
	}
	s, err := g.find(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.lock(ctx); err != nil {
		return err
	}
	if len(services) == 0 {
		if err := s.endWatch(ctx, false); err != nil {
			return err
		}
		if err := s.dropDamaged(ctx, o.volumes); err != nil {
			return err
		}
	}
	if err := s.observe(ctx); err != nil {
		return err
	}
	steps := reconcile.Down(s.desired, s.actual, reconcile.Options{
		Services: services, RemoveOrphans: o.removeOrphans, Volumes: o.volumes, Images: o.images,
		Timeout: seconds(o.timeout, o.timeoutSet),
	})
	if s.dryRun {
		return render.Plan(s.out, steps)
	}
	if len(steps) == 0 {
		s.say("davit: warning: No resource found to remove for project %q.", s.name)
	}
	if err := s.apply(ctx, "down", steps); err != nil {
		return err
	}
	if err := s.unprovide(ctx, services, "down"); err != nil {
		return err
	}
	return s.rest(ctx)
}

// rest ends the keeper of a project that has nothing left to keep.
func (s *session) rest(ctx context.Context) error {
	if err := s.observe(ctx); err != nil {
		return err
	}
	if len(s.actual.Containers) > 0 {
		return nil
	}
	if err := s.endIsolation(); err != nil {
		return err
	}
	if len(s.actual.Networks) > 0 {
		for _, n := range s.actual.Networks {
			if n.Project == s.name {
				return nil
			}
		}
	}
	return s.engine.Shutdown(ctx, s.name)
}
