package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

type psOptions struct {
	all, quiet, services, noTrunc, orphans bool
	format, filter                         string
	status                                 []string
}

func newPs(g *globals) *cobra.Command {
	var o psOptions
	c := &cobra.Command{
		Use:   "ps [OPTIONS] [SERVICE...]",
		Short: "List containers",
		RunE: func(c *cobra.Command, args []string) error {
			return runPs(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all stopped containers (including those created by the run command)")
	f.StringVar(&o.filter, "filter", "", "Filter services by a property (supported filters: status)")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVar(&o.orphans, "orphans", true, "Include orphaned services (not declared by project)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display IDs")
	f.BoolVar(&o.services, "services", false, "Display services")
	f.StringArrayVar(&o.status, "status", nil, "Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]")
	return c
}

const formatHelp = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.`

// settle merges --filter status=… into --status and refuses what nobody knows.
func (o *psOptions) settle() error {
	if o.filter != "" {
		key, value, ok := strings.Cut(o.filter, "=")
		if !ok {
			return fmt.Errorf("--filter %q: write KEY=VALUE, such as status=running", o.filter)
		}
		if key != "status" {
			return fmt.Errorf("unknown filter %s: there is only status", key)
		}
		o.status = append(o.status, value)
	}
	for _, s := range o.status {
		switch engine.Status(s) {
		case engine.Created, engine.Running, engine.Paused, engine.Restarting, engine.Removing, engine.Exited, engine.Dead:
		default:
			return fmt.Errorf("--status %q: use one of paused, restarting, removing, running, dead, created, exited", s)
		}
	}
	return nil
}

// runPs lists the project's containers.
func runPs(ctx context.Context, g *globals, o psOptions, services []string) error {
	if err := o.settle(); err != nil {
		return err
	}
	look := g.glance
	if !o.orphans { // who is one, the files say
		look = g.find
	}
	s, err := look(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	list := slices.DeleteFunc(s.containers(services, o.all), func(a reconcile.ActualContainer) bool {
		return !o.shows(a) || !o.orphans && s.project != nil && reconcile.Orphan(s.desired, a)
	})
	switch {
	case o.services:
		return printServices(g, list)
	case o.quiet:
		for _, a := range list {
			fmt.Fprintln(g.out, a.ID)
		}
		return nil
	}
	t := render.Table{Columns: render.ContainerColumns, Heads: render.ContainerHeads}
	now := time.Now()
	for _, a := range list {
		t.Rows = append(t.Rows, render.Container(engine.Snapshot{Container: a.Container, State: a.State}, o.noTrunc, now))
	}
	return t.Print(g.out, o.format)
}

// shows says whether ps lists a container: those that live, unless all or a
// status is asked for.
func (o psOptions) shows(a reconcile.ActualContainer) bool {
	if len(o.status) > 0 {
		return slices.Contains(o.status, string(a.State.Status))
	}
	return o.all || a.Alive()
}

func printServices(g *globals, list []reconcile.ActualContainer) error {
	var names []string
	for _, a := range list {
		names = append(names, a.Service())
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		fmt.Fprintln(g.out, n)
	}
	return nil
}

// observeContainers looks at the containers alone, for commands that change
// nothing.
func (s *session) observeContainers(ctx context.Context) error {
	all, err := s.engine.Containers(ctx, s.name)
	if err != nil {
		return err
	}
	s.actual = reconcile.Actual{}
	for _, c := range all {
		s.actual.Containers = append(s.actual.Containers, reconcile.ActualContainer{Container: c.Container, State: c.State})
	}
	return nil
}
