package cli

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/local/mirror"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/watch"
)

// fillFirst has every container that this command starts get the files of its
// service's rules with initial_sync before its process begins.
func (s *session) fillFirst(rules []watch.Rule) {
	rules = slices.DeleteFunc(slices.Clone(rules), func(r watch.Rule) bool { return !r.Initial || r.Target == "" })
	if len(rules) == 0 {
		return
	}
	s.host.first = func(ctx context.Context, project, id string) error {
		c, err := s.resting(ctx, project, id)
		if err != nil || c == nil {
			return err
		}
		if err := s.fill(ctx, *c, rules); err != nil {
			return fmt.Errorf("sync files to container %s before it starts: %w", c.Name, err)
		}
		return nil
	}
}

// resting is a service's container that does not run; nil for any other.
func (s *session) resting(ctx context.Context, project, id string) (*engine.Snapshot, error) {
	rec, err := s.engine.Layout().LoadContainer(project, id)
	if err != nil {
		return nil, err
	}
	state, err := s.engine.State(ctx, project, id)
	if err != nil {
		return nil, err
	}
	a := reconcile.ActualContainer{Container: *rec, State: state}
	if a.Alive() || a.OneOff() {
		return nil, nil
	}
	return &engine.Snapshot{Container: *rec, State: state}, nil
}

// fill brings the files to a container that does not run; those that it has
// already, with content and mode, are left alone. What lies in a mount is for the
// watcher: an empty volume gets the image's files when it is first used, and must
// be empty for that.
func (s *session) fill(ctx context.Context, c engine.Snapshot, rules []watch.Rule) error {
	service := c.Spec.Labels[reconcile.LabelService]
	tasks, err := watch.Initial(slices.DeleteFunc(slices.Clone(rules), func(r watch.Rule) bool { return r.Service != service }))
	if err != nil {
		return err
	}
	var files []mirror.File
	for _, t := range tasks {
		for _, f := range t.Files {
			if !mounted(c, f.To) {
				files = append(files, mirror.File(f))
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	root, as, done, err := s.engine.FilesBefore(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	return mirror.New(root, as.UID, as.GID).Apply(files, true)
}

// mounted says whether a path of a container is not in its own file system.
func mounted(c engine.Snapshot, to string) bool {
	targets := slices.Collect(maps.Keys(c.Volumes))
	for _, m := range c.Spec.Mounts {
		targets = append(targets, path.Clean(m.Target))
	}
	return slices.ContainsFunc(targets, func(t string) bool { return to == t || strings.HasPrefix(to, t+"/") })
}
