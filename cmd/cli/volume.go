package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

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

// volumeMatches says whether a volume passes all filters. Used are the users of
// each volume, by its name.
func volumeMatches(v engine.Volume, filters []string, used map[string][]string) (bool, error) {
	return passes(filters, func(key, value string) (bool, error) {
		switch key {
		case "dangling":
			return (len(used[v.Name]) == 0) == saysYes(value), nil
		case "name":
			return strings.Contains(v.Name, value), nil
		case "driver":
			return v.Driver == value, nil
		case "label":
			return labelMatches(v.Labels, value), nil
		case "label!":
			return !labelMatches(v.Labels, value), nil
		}
		return false, errors.New("use one of dangling, driver, label, name")
	})
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
			return g.inspectEach(format, args, func(s *session, name string) (any, error) {
				v, err := s.engine.VolumeStore().Get(name)
				return volumeJSON{
					CreatedAt: v.Created.Format(time.RFC3339), Driver: v.Driver, Labels: v.Labels, Name: v.Name, Scope: "local",
					Options: v.Options, Mountpoint: s.engine.Layout().VolumeData(v.Name),
				}, err
			})
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
			return g.removeEach(args, func(s *session, name string) error {
				_, err := s.engine.VolumeStore().Get(name)
				if errors.Is(err, volume.ErrNotFound) && force {
					return errSkip
				}
				if err != nil {
					return err
				}
				return s.engine.RemoveVolume(c.Context(), name)
			})
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "One that is not there is no error")
	return c
}
