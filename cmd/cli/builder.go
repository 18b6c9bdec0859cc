package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/local"
)

func newBuilder(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "builder COMMAND",
		Short: "Manage the build cache of this host",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBuilderPrune(g))
	return c
}

type builderPruneOptions struct {
	all, force bool
	filter     []string
	keep       string
}

func newBuilderPrune(g *globals) *cobra.Command {
	var o builderPruneOptions
	c := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove build cache", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runBuilderPrune(c.Context(), g, o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Remove all build cache, not just what no image stands on")
	f.BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	f.StringArrayVar(&o.filter, "filter", nil, `Provide filter values (e.g., "until=24h")`)
	f.StringVar(&o.keep, "keep-storage", "", "Amount of disk space to keep for cache")
	return c
}

// runBuilderPrune removes build cache, and every layer that nothing refers to.
func runBuilderPrune(ctx context.Context, g *globals, o builderPruneOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	p := build.PruneOptions{All: o.all, Dry: s.dryRun}
	if o.keep != "" {
		if p.Keep, err = units.RAMInBytes(o.keep); err != nil {
			return fmt.Errorf("--keep-storage: %w", err)
		}
	}
	for _, f := range o.filter {
		k, v, _ := strings.Cut(f, "=")
		age, err := time.ParseDuration(v)
		if k != "until" || err != nil {
			return fmt.Errorf("--filter %q: write until=DURATION, such as until=24h", f)
		}
		p.Before = time.Now().Add(-age)
	}
	kind := "build cache that no image stands on"
	if o.all {
		kind = "build cache"
	}
	if ok, err := s.agreed(ctx, o.force, "This will remove all "+kind+"."); err != nil || !ok {
		return err
	}
	s.patiently()
	freed, err := s.engine.PruneBuilds(ctx, p)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "Total:\t%s\n", units.HumanSize(float64(freed.Bytes)))
	return err
}

func newSystemDf(g *globals) *cobra.Command {
	var format string
	df := &cobra.Command{
		Use: "df [OPTIONS]", Short: "Show disk usage", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runSystemDf(c.Context(), g, format) },
	}
	df.Flags().StringVar(&format, "format", "table", formatHelp)
	return df
}

// usageColumns are the columns of system df.
var usageColumns = []render.Column{
	{Head: "TYPE", Key: "Type"}, {Head: "TOTAL", Key: "TotalCount"}, {Head: "ACTIVE", Key: "Active"},
	{Head: "SIZE", Key: "Size"}, {Head: "RECLAIMABLE", Key: "Reclaimable"},
}

// runSystemDf prints what davit's data takes.
func runSystemDf(ctx context.Context, g *globals, format string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	u, err := s.engine.DiskUsage(ctx)
	if err != nil {
		return err
	}
	t := render.Table{Columns: usageColumns}
	for _, x := range []struct {
		kind  string
		share local.Share
	}{{"Images", u.Images}, {"Containers", u.Containers}, {"Local Volumes", u.Volumes}, {"Build Cache", u.Cache}} {
		t.Rows = append(t.Rows, usageRow(x.kind, x.share))
	}
	return t.Print(g.out, format)
}

func usageRow(kind string, s local.Share) map[string]any {
	free := units.HumanSize(float64(s.Reclaimable))
	if s.Size > 0 && kind != "Build Cache" {
		free += fmt.Sprintf(" (%d%%)", s.Reclaimable*100/s.Size)
	}
	return map[string]any{
		"Type": kind, "TotalCount": fmt.Sprint(s.Total), "Active": fmt.Sprint(s.Active),
		"Size": units.HumanSize(float64(s.Size)), "Reclaimable": free,
	}
}
