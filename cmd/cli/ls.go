package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/reconcile"
)

type lsOptions struct {
	all, quiet bool
	format     string
	filter     []string
}

func newLs(g *globals) *cobra.Command {
	var o lsOptions
	c := &cobra.Command{
		Use:   "ls [OPTIONS]",
		Short: "List running compose projects",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runLs(c.Context(), g, o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all stopped Compose projects")
	f.StringArrayVar(&o.filter, "filter", nil, "Filter output based on conditions provided")
	f.StringVar(&o.format, "format", "table", "Format the output. Values: [table | json]")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display project names")
	return c
}

// runLs lists the projects that have containers on this host.
func runLs(ctx context.Context, g *globals, o lsOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	names, err := s.engine.Projects(ctx)
	if err != nil {
		return err
	}
	t := render.Table{Wide: 20, Array: true, Columns: []render.Column{{Head: "NAME", Key: "Name"}, {Head: "STATUS", Key: "Status"}, {Head: "CONFIG FILES", Key: "ConfigFiles"}}}
	for _, name := range names {
		s.name = name
		if err := s.observeContainers(ctx); err != nil {
			return err
		}
		row, alive := projectRow(name, s.actual.Containers)
		if (o.all || alive) && len(s.actual.Containers) > 0 && matches(o.filter, name) {
			t.Rows = append(t.Rows, row)
		}
	}
	if o.quiet {
		for _, r := range t.Rows {
			fmt.Fprintln(g.out, r["Name"])
		}
		return nil
	}
	return t.Print(g.out, o.format)
}

// matches holds a project's name against --filter name=PART.
func matches(filters []string, name string) bool {
	for _, f := range filters {
		if part, ok := strings.CutPrefix(f, "name="); ok && !strings.Contains(name, part) {
			return false
		}
	}
	return true
}

// projectRow tells of a project: how many containers are how far, and its
// files.
func projectRow(name string, all []reconcile.ActualContainer) (row map[string]any, alive bool) {
	counts := map[string]int{}
	files := ""
	for _, a := range all {
		counts[string(a.State.Status)]++
		alive = alive || a.Alive()
		if f := a.Spec.Labels[reconcile.LabelFiles]; f != "" {
			files = f
		}
	}
	var words []string
	for status, n := range counts {
		words = append(words, fmt.Sprintf("%s(%d)", status, n))
	}
	slices.Sort(words)
	return map[string]any{"Name": name, "Status": strings.Join(words, ", "), "ConfigFiles": files}, alive
}
