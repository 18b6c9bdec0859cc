package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/reconcile"
)

func newCommit(g *globals) *cobra.Command {
	var o local.CommitOptions
	var index int
	c := &cobra.Command{
		Use:   "commit [OPTIONS] SERVICE [REPOSITORY[:TAG]]",
		Short: "Create a new image from a service container's changes",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.Name = args[1]
			}
			return runCommit(c.Context(), g, o, args[0], index)
		},
	}
	commitFlags(c.Flags(), &o)
	c.Flags().IntVar(&index, "index", 0, "index of the container if service has multiple replicas.")
	return c
}

func commitFlags(f *pflag.FlagSet, o *local.CommitOptions) {
	f.StringVarP(&o.Author, "author", "a", "", `Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	f.StringVarP(&o.Message, "message", "m", "", "Commit message")
	f.BoolVarP(&o.Pause, "pause", "p", true, "Pause container during commit")
}

// runCommit makes an image of a container, which need not run.
func runCommit(ctx context.Context, g *globals, o local.CommitOptions, service string, index int) error {
	s, a, err := g.one(ctx, service, index)
	if err != nil {
		return err
	}
	defer s.close()
	return s.commit(ctx, o, a)
}

func (s *session) commit(ctx context.Context, o local.CommitOptions, a reconcile.ActualContainer) error {
	if s.dryRun {
		_, err := fmt.Fprintf(s.out, "commit container %s as %s\n", a.Name, o.Name)
		return err
	}
	img, err := s.engine.Commit(ctx, snapshot(a), o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, img.ID)
	return err
}

// one finds a container of a service, living or not: the first, or the one
// with the number.
func (g *globals) one(ctx context.Context, service string, index int) (*session, reconcile.ActualContainer, error) {
	s, err := g.find(ctx, []string{service})
	if err != nil {
		return nil, reconcile.ActualContainer{}, err
	}
	err = s.observeContainers(ctx)
	var all []reconcile.ActualContainer
	if err == nil {
		all, err = s.copied(cpOptions{index: index}, service)
	}
	if err != nil {
		s.close()
		return nil, reconcile.ActualContainer{}, err
	}
	return s, all[0], nil
}

func newExport(g *globals) *cobra.Command {
	var file string
	var index int
	c := &cobra.Command{
		Use:   "export [OPTIONS] SERVICE",
		Short: "Export a service container's filesystem as a tar archive",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runExport(c.Context(), g, args[0], index, file)
		},
	}
	c.Flags().IntVar(&index, "index", 0, "index of the container if service has multiple replicas.")
	c.Flags().StringVarP(&file, "output", "o", "", "Write to a file, instead of STDOUT")
	return c
}

// runExport writes a container's files, volumes left out.
func runExport(ctx context.Context, g *globals, service string, index int, file string) error {
	s, a, err := g.one(ctx, service, index)
	if err != nil {
		return err
	}
	defer s.close()
	return s.export(ctx, a, file)
}

func (s *session) export(ctx context.Context, a reconcile.ActualContainer, file string) error {
	if s.dryRun {
		_, err := fmt.Fprintln(s.out, "export container", a.Name)
		return err
	}
	if file != "" && file != "-" {
		return writeWhole(file, func(w io.Writer) error { return s.engine.Export(ctx, snapshot(a), w) })
	}
	if isTerminal(s.out) {
		return errors.New("an archive is nothing for a terminal: use -o, or redirect the output")
	}
	return s.engine.Export(ctx, snapshot(a), s.out)
}

func newDiff(g *globals) *cobra.Command {
	var index int
	c := &cobra.Command{
		Use:   "diff [OPTIONS] SERVICE",
		Short: "Show what a service container changed in its image's files (C), added (A) and deleted (D)",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, a, err := g.one(c.Context(), args[0], index)
			if err != nil {
				return err
			}
			defer s.close()
			return s.diff(c.Context(), a)
		},
	}
	c.Flags().IntVar(&index, "index", 0, "index of the container if service has multiple replicas.")
	return c
}

func (s *session) diff(ctx context.Context, a reconcile.ActualContainer) error {
	all, err := s.engine.Differences(ctx, snapshot(a))
	for _, d := range all {
		fmt.Fprintf(s.out, "%c %s\n", d.Kind, d.Path)
	}
	return err
}
