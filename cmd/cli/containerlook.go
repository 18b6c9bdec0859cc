package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/reconcile"
)

// newContainerLooks are the verbs that look at one container, or move its
// files; each does what the verb on services of the same name does.
func newContainerLooks(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newContainerCommit(g), newContainerCp(g), newContainerDiff(g), newContainerExport(g), newContainerPort(g),
		newContainerPrune(g), newContainerStats(g), newContainerTop(g),
	}
}

// named finds the container with a name or id, in any project or in none.
func (g *globals) named(ctx context.Context, word string) (*session, reconcile.ActualContainer, error) {
	s, err := g.open()
	if err != nil {
		return nil, reconcile.ActualContainer{}, err
	}
	c, err := s.byName(ctx, word)
	if err != nil {
		s.close()
		return nil, reconcile.ActualContainer{}, err
	}
	s.name = c.Project
	return s, reconcile.ActualContainer{Container: c.Container, State: c.State}, nil
}

// onNamed makes the run function of a verb on one container.
func onNamed(g *globals, do func(ctx context.Context, s *session, a reconcile.ActualContainer, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s, a, err := g.named(c.Context(), args[0])
		if err != nil {
			return err
		}
		defer s.close()
		return do(c.Context(), s, a, args[1:])
	}
}

func newContainerCommit(g *globals) *cobra.Command {
	var o local.CommitOptions
	c := &cobra.Command{Use: "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", Short: "Create a new image from a container's changes", Args: cobra.RangeArgs(1, 2)}
	c.RunE = onNamed(g, func(ctx context.Context, s *session, a reconcile.ActualContainer, args []string) error {
		o.Name = strings.Join(args, "")
		return s.commit(ctx, o, a)
	})
	commitFlags(c.Flags(), &o)
	return c
}

func newContainerCp(g *globals) *cobra.Command {
	var o cpOptions
	c := &cobra.Command{
		Use:   "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n  davit container cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Short: "Copy files/folders between a container and the local filesystem", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runContainerCp(c.Context(), g, o, args[0], args[1])
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	f.BoolVarP(&o.follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	return c
}

// runContainerCp copies out of a container or into it.
func runContainerCp(ctx context.Context, g *globals, o cpOptions, from, to string) error {
	d, err := direction(from, to)
	if err != nil {
		return err
	}
	s, a, err := g.named(ctx, d.container)
	if err != nil {
		return err
	}
	defer s.close()
	return s.copyFiles(ctx, o, []reconcile.ActualContainer{a}, d)
}

func newContainerDiff(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "diff CONTAINER", Short: "Show what a container changed in its image's files (C), added (A) and deleted (D)", Args: cobra.ExactArgs(1),
		RunE: onNamed(g, func(ctx context.Context, s *session, a reconcile.ActualContainer, _ []string) error {
			return s.diff(ctx, a)
		}),
	}
}

func newContainerExport(g *globals) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "export [OPTIONS] CONTAINER", Short: "Export a container's filesystem as a tar archive", Args: cobra.ExactArgs(1),
		RunE: onNamed(g, func(ctx context.Context, s *session, a reconcile.ActualContainer, _ []string) error {
			return s.export(ctx, a, file)
		}),
	}
	c.Flags().StringVarP(&file, "output", "o", "", "Write to a file, instead of STDOUT")
	return c
}

func newContainerPort(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PRIVATE_PORT[/PROTO]]", Short: "List port mappings or a specific mapping for the container", Args: cobra.RangeArgs(1, 2),
		RunE: onNamed(g, func(_ context.Context, s *session, a reconcile.ActualContainer, args []string) error {
			return s.ports(a, portOptions{protocol: "tcp"}, args)
		}),
	}
}

func newContainerPrune(g *globals) *cobra.Command {
	var force bool
	var filter []string
	c := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove all stopped containers", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runContainerPrune(c.Context(), g, force, filter) },
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	c.Flags().StringArrayVar(&filter, "filter", nil, `Provide filter values (such as "label=team=blue")`)
	return c
}

// runContainerPrune removes the containers of all projects that do not run.
func runContainerPrune(ctx context.Context, g *globals, force bool, filter []string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	if ok, err := s.agreed(ctx, force, "This will remove all stopped containers."); err != nil || !ok {
		return err
	}
	projects, err := s.engine.Projects(ctx)
	if err != nil {
		return err
	}
	var gone []string
	var wrong []error
	for _, p := range projects {
		ids, err := s.pruneContainers(ctx, p, filter)
		gone = append(gone, ids...)
		wrong = append(wrong, err)
	}
	s.printPruned("Deleted Containers:", gone, 0)
	return errors.Join(wrong...)
}

// pruneContainers removes a project's containers that do not run, and returns
// their ids.
func (s *session) pruneContainers(ctx context.Context, project string, filter []string) (gone []string, err error) {
	s.name = project
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer s.release()
	all, err := s.engine.Containers(ctx, project)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		ok, err := containerLsOptions{filter: filter}.takes(c)
		if err != nil {
			return gone, err
		}
		if !ok || (reconcile.ActualContainer{Container: c.Container, State: c.State}).Alive() {
			continue
		}
		if err := s.engine.RemoveContainer(ctx, project, c.ID, false); err != nil {
			return gone, err
		}
		gone = append(gone, c.ID)
	}
	if len(gone) == 0 {
		return nil, nil
	}
	return gone, s.leave(ctx, project)
}

func newContainerStats(g *globals) *cobra.Command {
	o := statsOptions{allProjects: true, named: []string{}}
	c := &cobra.Command{
		Use: "stats [OPTIONS] [CONTAINER...]", Short: "Display a live stream of container(s) resource usage statistics",
		RunE: func(c *cobra.Command, args []string) error {
			for _, word := range args {
				s, a, err := g.named(c.Context(), word)
				if err != nil {
					return err
				}
				s.close()
				o.named = append(o.named, a.ID)
			}
			return runStats(c.Context(), g, o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
	return c
}

func newContainerTop(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "top CONTAINER", Short: "Display the running processes of a container", Args: cobra.ExactArgs(1),
		RunE: onNamed(g, func(_ context.Context, s *session, a reconcile.ActualContainer, _ []string) error {
			if !a.Alive() || a.State.PID == 0 {
				return fmt.Errorf("container %s is not running", a.Name)
			}
			all, err := processes()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(s.out, 4, 1, 2, ' ', 0)
			fmt.Fprintln(w, "UID\tPID\tPPID\tC\tSTIME\tTTY\tTIME\tCMD")
			for _, p := range below(all, a) {
				fmt.Fprintln(w, p)
			}
			return w.Flush()
		}),
	}
}

// below are the processes of a container, those of its own cgroups included.
func below(all []process, a reconcile.ActualContainer) []process {
	home := cgroupOf(a.State.PID)
	return slices.DeleteFunc(slices.Clone(all), func(p process) bool {
		return home == "" || p.cgroup != home && !strings.HasPrefix(p.cgroup, home+"/")
	})
}
