package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func newCreate(g *globals) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "create [OPTIONS] [SERVICE...]",
		Short: "Creates containers for a service",
		RunE: func(c *cobra.Command, args []string) error {
			o.noStart, o.detach = true, true
			return runUp(c.Context(), g, o, args)
		},
	}
	o.bind(c)
	return c
}

func newScale(g *globals) *cobra.Command {
	var noDeps bool
	c := &cobra.Command{
		Use:   "scale [SERVICE=REPLICAS...]",
		Short: "Scale services",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runScale(c.Context(), g, noDeps, args)
		},
	}
	c.Flags().BoolVar(&noDeps, "no-deps", false, "Don't start linked services")
	return c
}

// runScale brings the named services to so many containers each.
func runScale(ctx context.Context, g *globals, noDeps bool, words []string) error {
	scale, err := scales(words)
	if err != nil {
		return err
	}
	o := upOptions{detach: true, noDeps: noDeps}
	o.pull, o.scale = "policy", words
	var services []string
	for name := range scale {
		services = append(services, name)
	}
	return runUp(ctx, g, o, services)
}
