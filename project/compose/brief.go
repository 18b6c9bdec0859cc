package compose

import (
	"context"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
)

// Brief tells what a command needs that acts on what is there already: the
// project's name, and the services that the files name themselves, without
// those they include. The files are read and held against the rules of the
// format, but not merged, interpolated or turned into a model: that is a third
// of the time of ps.
func Brief(ctx context.Context, o Options) (name string, services []string, warnings []project.Warning, err error) {
	l := &loaded{o: o}
	if err := l.prepare(ctx); err != nil {
		return "", nil, l.warnings(), err
	}
	for _, f := range l.tree.index.Files {
		for _, doc := range f.Docs {
			if n := value(doc, "services"); n != nil {
				services = append(services, entries(n, map[string]*yaml.Node{})...)
			}
		}
	}
	return l.tree.project, services, l.warnings(), nil
}
