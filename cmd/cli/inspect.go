package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/local"
)

func newInspect(g *globals) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "inspect [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Show everything about containers, in the shape of docker inspect",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runInspect(c.Context(), g, format, args)
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Format output using a custom template: 'json', or a Go template")
	return c
}

// runInspect prints containers of any project. What is found is printed
// although something else is not.
func runInspect(ctx context.Context, g *globals, format string, words []string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	layout := s.engine.Layout()
	all := []any{}
	var errs []error
	for _, w := range words {
		c, err := s.byName(ctx, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, render.InspectContainer(c, layout.Container(c.Project, c.ID), layout.VolumeData))
	}
	if err := render.Inspect(g.out, format, all); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// byName finds a container of any project by its name, its id or the
// beginning of its id.
func (s *session) byName(ctx context.Context, word string) (engine.Snapshot, error) {
	projects, err := s.engine.Projects(ctx)
	if err != nil {
		return engine.Snapshot{}, err
	}
	var found []engine.Snapshot
	for _, p := range projects {
		all, err := s.engine.Containers(ctx, p)
		if err != nil {
			return engine.Snapshot{}, err
		}
		for _, c := range all {
			if c.ID == word || c.Name == strings.TrimPrefix(word, "/") {
				return c, nil
			}
			if strings.HasPrefix(c.ID, word) {
				found = append(found, c)
			}
		}
	}
	switch len(found) {
	case 0:
		return engine.Snapshot{}, fmt.Errorf("%w: %s", local.ErrNoContainer, word)
	case 1:
		return found[0], nil
	}
	return engine.Snapshot{}, fmt.Errorf("%d containers have an id that begins with %s: write more of it", len(found), word)
}
