package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/volume"
)

type pruneOptions struct {
	all, force bool
	filter     []string
}

func newVolumePrune(g *globals) *cobra.Command {
	var o pruneOptions
	c := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove unused volumes: anonymous ones, and with --all all of them", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runVolumePrune(c.Context(), g, o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Remove all unused volumes, not just anonymous ones")
	f.BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	f.StringArrayVar(&o.filter, "filter", nil, `Provide filter values (such as "label=team=blue")`)
	return c
}

// runVolumePrune removes the volumes that no container of any project has.
func runVolumePrune(ctx context.Context, g *globals, o pruneOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	kind := "anonymous volumes not used by at least one container"
	if o.all {
		kind = "volumes not used by at least one container"
	}
	if ok, err := s.agreed(ctx, o.force, "This will remove all "+kind+"."); err != nil || !ok {
		return err
	}
	names, freed, err := s.pruneVolumes(ctx, o)
	s.printPruned("Deleted Volumes:", names, freed)
	return err
}

// agreed asks for consent unless it was given on the command line.
func (s *session) agreed(ctx context.Context, force bool, what string) (bool, error) {
	if force || s.dryRun {
		return true, nil
	}
	return s.ask(ctx, "WARNING! "+what+"\nAre you sure you want to continue?")
}

func (s *session) listPruned(head string, names []string) {
	if len(names) == 0 {
		return
	}
	fmt.Fprintln(s.out, head)
	for _, n := range names {
		fmt.Fprintln(s.out, n)
	}
	fmt.Fprintln(s.out)
}

func (s *session) printPruned(head string, names []string, freed int64) {
	s.listPruned(head, names)
	word := "Total reclaimed space:"
	if s.dryRun {
		word = "Total space that would be reclaimed:"
	}
	fmt.Fprintln(s.out, word, units.HumanSize(float64(freed)))
}

func (s *session) pruneVolumes(ctx context.Context, o pruneOptions) (names []string, freed int64, err error) {
	all, err := s.engine.VolumeStore().List()
	if err != nil {
		return nil, 0, err
	}
	used := s.engine.VolumeUsers()
	for _, v := range all {
		ok, err := volumeMatches(v, slices.Concat(o.filter, []string{"dangling=true"}), used)
		if err != nil {
			return names, freed, err
		}
		if !ok || !v.Anonymous && !o.all {
			continue
		}
		size := diskUsage(s.engine.Layout().VolumeData(v.Name))
		if !s.dryRun {
			err := s.engine.RemoveVolume(ctx, v.Name)
			if errors.Is(err, volume.ErrInUse) {
				continue // since a moment ago
			}
			if err != nil {
				return names, freed, err
			}
		}
		names, freed = append(names, v.Name), freed+size
	}
	return names, freed, nil
}

// diskUsage sums the sizes of the regular files below a directory.
func diskUsage(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				sum += st.Size()
			}
		}
		return nil
	})
	return sum
}

func newVolumeImport(g *globals) *cobra.Command {
	var labels []string
	c := &cobra.Command{
		Use:   "import docker:NAME [NEW_NAME]",
		Short: "Copy a volume that Docker has on this host, owners and attributes kept",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			name, ok := strings.CutPrefix(args[0], "docker:")
			if !ok {
				return fmt.Errorf("import %q: write docker:NAME for the volume NAME of Docker's on this host", args[0])
			}
			return runVolumeImport(c.Context(), g, name, args[len(args)-1], labels)
		},
	}
	c.Flags().StringArrayVar(&labels, "label", nil, "Set metadata for the volume")
	return c
}

// runVolumeImport copies one volume. Without another name it keeps its own, so
// that the next up finds it.
func runVolumeImport(ctx context.Context, g *globals, from, to string, labels []string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	v := engine.Volume{Name: strings.TrimPrefix(to, "docker:"), Labels: keyValues(labels)}
	if project, _, ok := strings.Cut(v.Name, "_"); ok && checkName(project) == nil {
		v.Project = project // as docker compose names the volumes of a project
	}
	if err := s.engine.VolumeStore().Import(ctx, volume.FindDocker(), from, v); err != nil {
		return err
	}
	_, err = fmt.Fprintln(g.out, v.Name)
	return err
}

// CreateVolume makes a volume, unless Docker on this host has one of the name
// with data in it: that must not be shadowed by an empty one.
func (h *host) CreateVolume(ctx context.Context, v engine.Volume) error {
	if d := volume.FindDocker(); !h.newVolumes && !volume.Mounted(v) && d.Holds(v.Name) {
		return fmt.Errorf("create volume %s: Docker on this host has a volume of that name with data in it, and an empty one would hide it: "+
			"copy it with \"davit volume import docker:%s\", or start afresh with --new-volumes", v.Name, v.Name)
	}
	have, err := h.VolumeStore().Create(ctx, v)
	if err != nil {
		return err
	}
	if fields := volume.Differs(have, v); len(fields) > 0 {
		who := strings.Join(h.VolumeUsers()[v.Name], ", ")
		return fmt.Errorf("create volume %s: it could not be made anew with another %s, because %s has it: remove that first", v.Name, strings.Join(fields, " and "), who)
	}
	return nil
}
