package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/reconcile"
)

// A planner is one of the verbs on containers that there are.
type planner func(reconcile.Desired, reconcile.Actual, reconcile.Options) []reconcile.Step

// runVerb observes, plans and applies a verb on existing containers.
func runVerb(ctx context.Context, g *globals, verb string, o reconcile.Options, plan planner) error {
	s, err := g.take(ctx, o.Services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.apply(ctx, verb, plan(s.desired, s.actual, o)); err != nil || verb != "stop" {
		return err
	}
	return s.pauseProviders(ctx, o.Services)
}

func newStop(g *globals) *cobra.Command {
	var timeout int
	c := &cobra.Command{
		Use:   "stop [OPTIONS] [SERVICE...]",
		Short: "Stop services",
		RunE: func(c *cobra.Command, args []string) error {
			o := reconcile.Options{Services: args, Timeout: seconds(timeout, c.Flags().Changed("timeout"))}
			return runVerb(c.Context(), g, "stop", o, reconcile.Stop)
		},
	}
	c.Flags().IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	return c
}

func newRestart(g *globals) *cobra.Command {
	var timeout int
	var noDeps bool
	c := &cobra.Command{
		Use:   "restart [OPTIONS] [SERVICE...]",
		Short: "Restart service containers",
		RunE: func(c *cobra.Command, args []string) error {
			o := reconcile.Options{Services: args, NoDeps: noDeps, Timeout: seconds(timeout, c.Flags().Changed("timeout"))}
			return runVerb(c.Context(), g, "restart", o, reconcile.Restart)
		},
	}
	c.Flags().IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	c.Flags().BoolVar(&noDeps, "no-deps", false, "Don't restart dependent services")
	return c
}

func newStart(g *globals) *cobra.Command {
	var wait bool
	var timeout int
	c := &cobra.Command{
		Use:   "start [OPTIONS] [SERVICE...]",
		Short: "Start services",
		RunE: func(c *cobra.Command, args []string) error {
			return runStart(c.Context(), g, args, wait, timeout)
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "Wait for services to be running|healthy. Implies detached mode.")
	c.Flags().IntVar(&timeout, "wait-timeout", 0, "Maximum duration in seconds to wait for the project to be running|healthy")
	return c
}

// runStart starts containers that there are; a service that has none is an
// error.
func runStart(ctx context.Context, g *globals, services []string, wait bool, timeout int) error {
	s, err := g.take(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	wanted := services
	if len(wanted) == 0 {
		for _, c := range reconcile.Wanted(s.desired, reconcile.Options{}) {
			wanted = append(wanted, c.Service)
		}
	}
	for _, name := range wanted {
		if s.project != nil && s.project.Services[name] != nil && s.project.Services[name].Provider != nil {
			continue // start begins containers, and has nothing to ask of providers
		}
		if len(s.containers([]string{name}, false)) == 0 {
			return fmt.Errorf("service %q has no container to start", name)
		}
	}
	if err := s.apply(ctx, "start", reconcile.Start(s.desired, s.actual, reconcile.Options{Services: services})); err != nil {
		return err
	}
	if !wait || s.dryRun {
		return nil
	}
	show, err := s.progressFor("start")
	if err != nil {
		return err
	}
	defer show.Close()
	s.release()
	return s.awaitUp(ctx, services, false, timeout, show)
}

func newKill(g *globals) *cobra.Command {
	var signal string
	var orphans bool
	c := &cobra.Command{
		Use:   "kill [OPTIONS] [SERVICE...]",
		Short: "Force stop service containers",
		RunE: func(c *cobra.Command, args []string) error {
			o := reconcile.Options{Services: args, RemoveOrphans: orphans}
			return runVerb(c.Context(), g, "kill", o, func(d reconcile.Desired, a reconcile.Actual, o reconcile.Options) []reconcile.Step {
				return reconcile.Kill(d, a, o, signal)
			})
		},
	}
	c.Flags().StringVarP(&signal, "signal", "s", "SIGKILL", "SIGNAL to send to the container")
	c.Flags().BoolVar(&orphans, "remove-orphans", envBool("COMPOSE_REMOVE_ORPHANS", false), "Remove containers for services not defined in the Compose file")
	return c
}

func newPause(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "pause [SERVICE...]",
		Short: "Pause services",
		RunE: func(c *cobra.Command, args []string) error {
			return runVerb(c.Context(), g, "pause", reconcile.Options{Services: args}, func(_ reconcile.Desired, a reconcile.Actual, o reconcile.Options) []reconcile.Step {
				return reconcile.Pause(a, o.Services)
			})
		},
	}
}

func newUnpause(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "unpause [SERVICE...]",
		Short: "Unpause services",
		RunE: func(c *cobra.Command, args []string) error {
			return runVerb(c.Context(), g, "unpause", reconcile.Options{Services: args}, func(_ reconcile.Desired, a reconcile.Actual, o reconcile.Options) []reconcile.Step {
				return reconcile.Unpause(a, o.Services)
			})
		},
	}
}
