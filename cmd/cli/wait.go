package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

func newWait(g *globals) *cobra.Command {
	var down bool
	c := &cobra.Command{
		Use:   "wait SERVICE [SERVICE...] [OPTIONS]",
		Short: "Block until containers of all (or specified) services stop.",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runWait(c.Context(), g, down, args)
		},
	}
	c.Flags().BoolVar(&down, "down-project", false, "Drops project when the first container stops")
	return c
}

// runWait prints how the containers of the services end, and ends with the
// status of the last; 42 when waiting itself failed.
func runWait(ctx context.Context, g *globals, down bool, services []string) error {
	s, err := g.glance(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	list := s.containers(services, false)
	if len(list) == 0 {
		return exit{1, fmt.Errorf("no containers for project %q", s.name)}
	}
	type end struct {
		c     reconcile.ActualContainer
		state engine.State
		err   error
	}
	ends := make(chan end, len(list))
	for _, a := range list {
		go func() {
			st, err := s.engine.Wait(ctx, s.name, a.ID)
			ends <- end{a, st, err}
		}()
	}
	status := 0
	for range list {
		e := <-ends
		if e.err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return exit{42, fmt.Errorf("wait for container %s: %w", e.c.Name, e.err)}
		}
		status = e.state.ExitCode
		fmt.Fprintf(g.out, "container %q exited with status code %d\n", e.c.ID, status)
		if down {
			break
		}
	}
	if down {
		if err := runDown(ctx, g, downOptions{}, nil); err != nil {
			return err
		}
	}
	if status != 0 {
		return exit{code: status}
	}
	return nil
}
