package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"
)

type runOptions struct {
	createOptions
	capAdd, capDrop, env, envFiles, labels, publish, volumes  []string
	detach, interactive, noTTY, tty, noDeps, rm, ports, quiet bool
	aliases, entrypointSet                                    bool
	entrypoint, name, user, workdir                           string
}

func newRun(g *globals) *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run [OPTIONS] SERVICE [COMMAND] [ARGS...]",
		Short: "Run a one-off command on a service",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.entrypointSet = c.Flags().Changed("entrypoint")
			return runRun(c.Context(), g, o, args[0], args[1:])
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVar(&o.build, "build", false, "Build image before starting container")
	f.StringSliceVar(&o.capAdd, "cap-add", nil, "Add Linux capabilities")
	f.StringSliceVar(&o.capDrop, "cap-drop", nil, "Drop Linux capabilities")
	f.BoolVarP(&o.detach, "detach", "d", false, "Run container in background and print container ID")
	f.StringVar(&o.entrypoint, "entrypoint", "", "Override the entrypoint of the image")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.StringArrayVar(&o.envFiles, "env-from-file", nil, "Set environment variables from file")
	f.BoolVarP(&o.interactive, "interactive", "i", true, "Keep STDIN open even if not attached")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "Add or override a label")
	f.StringVar(&o.name, "name", "", "Assign a name to the container")
	f.BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	f.BoolVar(&o.noRecreate, "no-recreate", false, "If dependent containers already exist, don't recreate them, even if their configuration diverged")
	f.BoolVarP(&o.noTTY, "no-tty", "T", !isTerminal(g.out), "Disable pseudo-TTY allocation (default: auto-detected)")
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "Publish a container's port(s) to the host")
	f.StringVar(&o.pull, "pull", "policy", `Pull image before running ("always"|"missing"|"never")`)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Don't print anything to STDOUT")
	f.BoolVar(&o.quietBuild, "quiet-build", false, "Suppress progress output from the build process")
	f.BoolVar(&o.quietPull, "quiet-pull", false, "Pull without printing progress information")
	f.BoolVar(&o.removeOrphans, "remove-orphans", envBool("COMPOSE_REMOVE_ORPHANS", false), "Remove containers for services not defined in the Compose file")
	f.BoolVar(&o.rm, "rm", false, "Automatically remove the container when it exits")
	f.BoolVarP(&o.ports, "service-ports", "P", false, "Run command with all service's ports enabled and mapped to the host")
	f.BoolVarP(&o.tty, "tty", "t", true, "Allocate a pseudo-TTY")
	f.BoolVar(&o.aliases, "use-aliases", false, "Use the service's network useAliases in the network(s) the container connects to")
	f.StringVarP(&o.user, "user", "u", "", "Run as specified username or uid")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "Bind mount a volume")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	_ = f.MarkHidden("tty")
	return c
}

// runRun makes a container of a service's definition for one command, after
// what the service depends on is up.
func runRun(ctx context.Context, g *globals, o runOptions, service string, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	s, err := g.need(ctx, []string{service}, map[string]int{})
	if err != nil {
		return err
	}
	defer s.close()
	s.quietPull, s.quietBuild = o.quietPull, o.quietBuild
	if s.project.Jobs[service] != nil {
		return fmt.Errorf("%s is a job: davit runs jobs by schedule, not by run", service)
	}
	if err := s.provide(ctx, []string{service}, o.noDeps); err != nil {
		return err
	}
	base, err := s.definition(service)
	if err != nil {
		return err
	}
	s.host.quiet, s.host.newVolumes = o.quietPull, o.newVolumes
	draft, err := o.draft(s.name, base, args)
	if err != nil {
		return err
	}
	draft.Spec.TTY = !o.noTTY && !o.detach && isTerminal(g.in) && isTerminal(g.out)
	draft.Spec.OpenStdin = o.interactive && !o.detach
	create, start, err := s.prepareRun(ctx, o, base, draft)
	if err != nil || s.dryRun {
		return err
	}
	return s.foregroundRun(ctx, o, create, start)
}

// definition is what the files ask of a service's first container.
func (s *session) definition(service string) (reconcile.Container, error) {
	for _, c := range s.desired.Containers {
		if c.Service == service {
			return c, nil
		}
	}
	if _, err := s.project.Service(service); err != nil {
		return reconcile.Container{}, err
	}
	return reconcile.Container{}, fmt.Errorf("service %q is scaled to none: run needs its definition, give it one replica", service)
}

// prepareRun brings the dependencies up and returns the steps for the
// container itself.
func (s *session) prepareRun(ctx context.Context, o runOptions, base reconcile.Container, draft reconcile.CreateContainer) (create, start reconcile.Step, err error) {
	create = reconcile.Step{ID: 1, Do: draft, Why: "asked to run"}
	start = reconcile.Step{ID: 1, Do: reconcile.StartContainer{Name: draft.Name, Service: draft.Service}, Why: "asked to run"}
	plan := o.plan([]string{base.Service})
	plan.NoDeps = o.noDeps
	plan.Except = base.Service
	steps, err := s.prepare(ctx, plan, o.yes)
	if err != nil {
		return create, start, err
	}
	if s.dryRun {
		create.ID, start.ID = len(steps)+1, len(steps)+2
		start.After = []int{create.ID}
		return create, start, render.Plan(s.out, append(steps, create, start))
	}
	if err := s.apply(ctx, "run", steps); err != nil {
		return create, start, err
	}
	return create, start, s.observe(ctx)
}

// foregroundRun creates the container, joins this terminal to it and starts
// it.
func (s *session) foregroundRun(ctx context.Context, o runOptions, create, start reconcile.Step) error {
	draft := create.Do.(reconcile.CreateContainer)
	id, err := s.host.CreateContainer(ctx, s.name, draft)
	if err != nil {
		return fmt.Errorf("create container %s: %w", draft.Name, err)
	}
	s.release()
	c := engine.Container{ID: id, Name: draft.Name, Project: s.name, Spec: draft.Spec}
	f := &foreground{
		session: s, c: reconcile.ActualContainer{Container: c}, stdin: draft.Spec.OpenStdin, once: true, proxy: true, quiet: o.quiet,
	}
	if f.keys, err = detachKeys(""); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if !o.detach {
		if err := errors.Join(f.open(journal.ReadOptions{Tail: -1, Follow: true}), f.hold(inner)); err != nil {
			return err
		}
	}
	if err := s.engine.StartContainer(ctx, s.name, id); err != nil {
		if o.rm {
			err = joinErrors(err, s.engine.RemoveContainer(context.WithoutCancel(ctx), s.name, id, true))
		}
		return fmt.Errorf("start container %s: %w", draft.Name, err)
	}
	if o.detach {
		_, err := fmt.Fprintln(s.out, id)
		return err
	}
	return f.gone(inner, o.rm, f.stay(inner))
}

// gone returns once a container that removes itself is removed; a person who
// left it running has err nil and no ending to wait for.
func (f *foreground) gone(ctx context.Context, rm bool, err error) error {
	if !rm || f.away {
		return err
	}
	if rerr := f.engine.RemoveContainer(ctx, f.session.name, f.c.ID, true); rerr != nil && err == nil {
		return rerr
	}
	return err
}
