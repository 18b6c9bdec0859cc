package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/volume"
)

func newVolume(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "volume COMMAND",
		Short: "Manage the volumes of this host",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newVolumeCreate(g), newVolumeImport(g), newVolumeInspect(g), newVolumeLs(g), newVolumePrune(g), newVolumeRm(g))
	return c
}

type volumeLsOptions struct {
	quiet  bool
	format string
	filter []string
}

func newVolumeLs(g *globals) *cobra.Command {
	var o volumeLsOptions
	c := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List volumes", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runVolumeLs(g, o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display volume names")
	f.StringVar(&o.format, "format", "table", formatHelp)
	f.StringArrayVarP(&o.filter, "filter", "f", nil, `Provide filter values (such as "dangling=true", "name=db", "label=team=blue", "driver=local")`)
	return c
}

// runVolumeLs lists the volumes of this host, those of all projects.
func runVolumeLs(g *globals, o volumeLsOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.engine.VolumeStore().List()
	if err != nil {
		return err
	}
	used := s.engine.VolumeUsers()
	t := render.Table{Columns: []render.Column{{Head: "DRIVER", Key: "Driver"}, {Head: "VOLUME NAME", Key: "Name"}}}
	for _, v := range all {
		ok, err := volumeMatches(v, o.filter, used)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if o.quiet {
			fmt.Fprintln(g.out, v.Name)
			continue
		}
		t.Rows = append(t.Rows, map[string]any{
			"Driver": v.Driver, "Name": v.Name, "Labels": render.Labels(v.Labels), "Links": "N/A", "Scope": "local", "Size": "N/A",
			"Mountpoint": s.engine.Layout().VolumeData(v.Name), "Availability": "N/A", "Group": "N/A", "Status": "N/A",
		})
	}
	if o.quiet {
		return nil
	}
	return t.Print(g.out, o.format)
}

// volumeMatches says whether a volume passes docker's filters: values of one
// key are alternatives, keys add up.
func volumeMatches(v engine.Volume, filters []string, used map[string][]string) (bool, error) {
	verdict := map[string]bool{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return false, fmt.Errorf("filter %q: write it as key=value", f)
		}
		var hit bool
		switch key {
		case "dangling":
			hit = (len(used[v.Name]) == 0) == (value == "true" || value == "1")
		case "name":
			hit = strings.Contains(v.Name, value)
		case "driver":
			hit = v.Driver == value
		case "label":
			hit = labelMatches(v.Labels, value)
		case "label!":
			hit = !labelMatches(v.Labels, value)
		default:
			return false, fmt.Errorf("filter %q: use one of dangling, driver, label, name", key)
		}
		if key == "label" || key == "label!" {
			key = f // labels all have to be there
		}
		verdict[key] = verdict[key] || hit
	}
	for _, hit := range verdict {
		if !hit {
			return false, nil
		}
	}
	return true, nil
}

func labelMatches(labels map[string]string, want string) bool {
	key, value, exact := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!exact || have == value)
}

// A volumeJSON is a volume as `docker volume inspect` shows it.
type volumeJSON struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func newVolumeInspect(g *globals) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "inspect [OPTIONS] VOLUME [VOLUME...]", Short: "Display detailed information on volumes", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.close()
			var all []any
			var wrong []error
			for _, name := range args {
				v, err := s.engine.VolumeStore().Get(name)
				if err != nil {
					wrong = append(wrong, err)
					continue
				}
				all = append(all, volumeJSON{
					CreatedAt: v.Created.Format(time.RFC3339), Driver: v.Driver, Labels: v.Labels, Name: v.Name, Scope: "local",
					Options: v.Options, Mountpoint: s.engine.Layout().VolumeData(v.Name),
				})
			}
			return errors.Join(append(wrong, render.Documents(g.out, format, all))...)
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	return c
}

func newVolumeCreate(g *globals) *cobra.Command {
	var driver, name string
	var labels, options []string
	c := &cobra.Command{
		Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				name = args[0]
			}
			v := engine.Volume{Name: name, Driver: driver, Labels: keyValues(labels), Options: keyValues(options)}
			if name == "" {
				v.Name, v.Anonymous = volume.AnonymousName(), true
			}
			return runVolumeCreate(c.Context(), g, v)
		},
	}
	f := c.Flags()
	f.StringVarP(&driver, "driver", "d", "local", "Specify volume driver name")
	f.StringVar(&name, "name", "", "Specify volume name")
	f.StringArrayVar(&labels, "label", nil, "Set metadata for a volume")
	f.StringArrayVarP(&options, "opt", "o", nil, "Set driver specific options (type, o, device)")
	_ = f.MarkHidden("name")
	return c
}

func keyValues(words []string) map[string]string {
	var out map[string]string
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out
}

// runVolumeCreate makes a volume, or finds the one of that name defined alike.
func runVolumeCreate(ctx context.Context, g *globals, v engine.Volume) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	have, err := s.engine.VolumeStore().Create(ctx, v)
	if err != nil {
		return err
	}
	if fields := volume.Differs(have, v); len(fields) > 0 {
		return fmt.Errorf("volume %s exists with another %s", v.Name, strings.Join(fields, " and "))
	}
	_, err = fmt.Fprintln(g.out, v.Name)
	return err
}

func newVolumeRm(g *globals) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "rm [OPTIONS] VOLUME [VOLUME...]", Aliases: []string{"remove"}, Short: "Remove volumes", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.close()
			var wrong []error
			for _, name := range args {
				_, err := s.engine.VolumeStore().Get(name)
				if errors.Is(err, volume.ErrNotFound) && force {
					continue
				}
				if err == nil {
					err = s.engine.RemoveVolume(c.Context(), name)
				}
				if err != nil {
					wrong = append(wrong, err)
					continue
				}
				fmt.Fprintln(g.out, name)
			}
			return errors.Join(wrong...)
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "One that is not there is no error")
	return c
}

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
	return h.Engine.CreateVolume(ctx, v)
}
