package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine/local"
)

func newDoctor(g *globals) *cobra.Command {
	var repair bool
	c := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Check this host's projects against the kernel, and repair them",
		Long: `Check that records can be read, that what they call running runs, that every
running project has its keeper, and that nothing is left of what was killed.
With --repair the same code runs that recovers a project whenever a keeper
starts. The exit status is 1 while something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runDoctor(c.Context(), g, repair)
		},
	}
	c.Flags().BoolVar(&repair, "repair", false, "Repair what is wrong, as far as no data would be lost")
	return c
}

// errIll is the end of a doctor that has told what is wrong.
var errIll = errors.New("this host needs repair: see above")

// runDoctor prints what is wrong, after repairing it when asked to.
func runDoctor(ctx context.Context, g *globals, repair bool) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	found, err := s.engine.Doctor(ctx)
	if err != nil {
		return err
	}
	if repair && len(found) > 0 {
		if err := s.repair(ctx, found); err != nil {
			return err
		}
		before := found
		if found, err = s.engine.Doctor(ctx); err != nil {
			return err
		}
		for _, f := range before {
			if !slices.Contains(found, f) {
				fmt.Fprintf(g.out, "repaired: %s\n", told(f))
			}
		}
	}
	for _, f := range found {
		fmt.Fprintf(g.out, "wrong: %s\n", told(f))
		if f.Fix != "" {
			fmt.Fprintf(g.out, "  %s\n", f.Fix)
		} else {
			fmt.Fprintln(g.out, "  davit doctor --repair")
		}
	}
	if len(found) > 0 {
		return errIll
	}
	_, err = fmt.Fprintln(g.out, "All is well.")
	return err
}

func told(f local.Finding) string {
	if f.Project == "" {
		return f.What
	}
	return "project " + f.Project + ": " + f.What
}

// repair has the keeper of each project with findings recover it, one command
// at a time.
func (s *session) repair(ctx context.Context, found []local.Finding) error {
	var errs []error
	done := map[string]bool{}
	for _, f := range found {
		if f.Fix != "" || done[f.Project] {
			continue
		}
		done[f.Project] = true
		if f.Project == "" {
			errs = append(errs, s.engine.RepairStore(ctx))
			continue
		}
		s.name = f.Project
		err := s.lock(ctx)
		if err == nil {
			err = s.engine.Repair(ctx, f.Project)
			s.release()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dropDamaged removes what the project has and nobody can read, for a down of
// all of it.
func (s *session) dropDamaged(ctx context.Context, volumes bool) error {
	all, err := s.engine.Damage(s.name)
	if err != nil {
		return err
	}
	for _, d := range all {
		s.say("davit: warning: %v; it is removed by its name alone", d.Err)
		if s.dryRun {
			continue
		}
		if err := s.engine.RemoveDamaged(ctx, s.name, d, volumes); err != nil {
			return err
		}
	}
	return nil
}
