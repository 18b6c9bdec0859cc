package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
)

func newVolumes(g *globals) *cobra.Command {
	var format string
	var quiet bool
	c := &cobra.Command{
		Use:   "volumes [OPTIONS] [SERVICE...]",
		Short: "List volumes",
		RunE: func(c *cobra.Command, args []string) error {
			return runVolumes(c.Context(), g, format, quiet, args)
		},
	}
	c.Flags().StringVar(&format, "format", "table", formatHelp)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display volume names")
	return c
}

// runVolumes lists the project's volumes, or those that services use.
func runVolumes(ctx context.Context, g *globals, format string, quiet bool, services []string) error {
	s, err := g.find(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observe(ctx); err != nil {
		return err
	}
	used := map[string]bool{}
	for _, a := range s.containers(services, true) {
		for _, name := range a.Volumes {
			used[name] = true
		}
	}
	t := render.Table{Columns: []render.Column{{Head: "DRIVER", Key: "Driver"}, {Head: "VOLUME NAME", Key: "Name"}}}
	for _, name := range slices.Sorted(maps.Keys(s.actual.Volumes)) {
		v := s.actual.Volumes[name]
		if v.Anonymous || len(services) > 0 && !used[name] {
			continue
		}
		if quiet {
			fmt.Fprintln(g.out, name)
			continue
		}
		driver := v.Driver
		if driver == "" {
			driver = "local"
		}
		t.Rows = append(t.Rows, map[string]any{
			"Driver": driver, "Name": name, "Labels": render.Labels(v.Labels), "Links": "N/A", "Scope": "local", "Size": "N/A",
			"Mountpoint": s.engine.Layout().VolumeData(name),
		})
	}
	if quiet {
		return nil
	}
	return t.Print(g.out, format)
}
