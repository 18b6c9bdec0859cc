package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/reconcile"
)

type rmOptions struct{ force, stop, volumes bool }

func newRm(g *globals) *cobra.Command {
	var o rmOptions
	var all bool
	c := &cobra.Command{
		Use:   "rm [OPTIONS] [SERVICE...]",
		Short: "Removes stopped service containers",
		RunE: func(c *cobra.Command, args []string) error {
			return runRm(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.force, "force", "f", false, "Don't ask to confirm removal")
	f.BoolVarP(&o.stop, "stop", "s", false, "Stop the containers, if required, before removing")
	f.BoolVarP(&o.volumes, "volumes", "v", false, "Remove any anonymous volumes attached to containers")
	f.BoolVarP(&all, "all", "a", false, "Deprecated - no effect")
	_ = f.MarkHidden("all")
	return c
}

// runRm removes stopped containers once a person agrees.
func runRm(ctx context.Context, g *globals, o rmOptions, services []string) error {
	s, err := g.take(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	steps := reconcile.Remove(s.desired, s.actual, reconcile.Options{Services: services, Volumes: o.volumes}, o.stop)
	if s.dryRun {
		return render.Plan(s.out, steps)
	}
	var names []string
	for _, step := range steps {
		if r, ok := step.Do.(reconcile.RemoveContainer); ok {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		s.say("No stopped containers")
		return nil
	}
	going := "Going to remove " + strings.Join(names, ", ")
	if o.force {
		fmt.Fprintln(s.out, going)
	} else {
		agreed, err := s.ask(ctx, going+"\nAre you sure?")
		if err != nil || !agreed {
			return err
		}
	}
	if err := s.apply(ctx, "rm", steps); err != nil {
		return err
	}
	return s.rest(ctx)
}
