package cli

import (
	"context"
	"slices"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/project/compose"
)

// glance is find for commands that act on what is there already: they need the
// project's name and whether the services exist, not what their definitions
// come to, which is most of the time of a short command.
func (g *globals) glance(ctx context.Context, services []string) (*session, error) {
	if g.name != "" && len(g.files) == 0 || slices.Contains(g.files, "-") {
		return g.find(ctx, services)
	}
	name, written, warnings, err := compose.Brief(ctx, g.composeOptions(nil))
	if err != nil {
		return g.find(ctx, services) // which tells all that is wrong
	}
	for _, s := range services {
		if !slices.Contains(written, s) {
			return g.find(ctx, services) // it may be included, or misspelt
		}
	}
	for _, w := range warnings {
		render.Warning(g.err, w)
	}
	s, err := g.open()
	if err != nil {
		return nil, err
	}
	s.name, s.desired.Project = name, name
	return s, nil
}
