package cli

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/local"
)

func newSystem(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "system COMMAND",
		Short: "Look after what davit keeps on this host",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newSystemDf(g), newSystemFsck(g), newSystemInfo(g), newSystemPrune(g))
	return c
}

func newSystemFsck(g *globals) *cobra.Command {
	var noRepair bool
	c := &cobra.Command{
		Use: "fsck [OPTIONS]", Short: "Verify every digest and record, and repair what can be had again", Args: cobra.NoArgs,
		Long: "Verifies every digest and record. Exit status: 0 when all is well or was repaired, 1 when something is left.",
		RunE: func(c *cobra.Command, _ []string) error { return runSystemFsck(c.Context(), g, !noRepair && !g.dryRun) },
	}
	c.Flags().BoolVarP(&noRepair, "no-repair", "n", false, "Only tell what is wrong")
	return c
}

// runSystemFsck checks the store and says what it repaired.
func runSystemFsck(ctx context.Context, g *globals, repair bool) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	s.patiently()
	found, err := s.engine.Check(ctx, repair)
	left := 0
	for _, f := range found {
		if f.Repaired == "" {
			left++
			fmt.Fprintln(g.out, f.What)
			continue
		}
		fmt.Fprintf(g.out, "%s: %s\n", f.What, f.Repaired)
	}
	if err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d of %d things that are wrong are left", left, len(found))
	}
	if len(found) == 0 {
		_, err = fmt.Fprintln(g.out, "everything is as it was recorded")
	}
	return err
}

// An infoJSON is what info tells, under docker's keys where there are such.
type infoJSON struct {
	ServerVersion     string
	Driver            string
	DockerRootDir     string
	RunDir            string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Volumes           int
	Projects          int
	KernelVersion     string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	CgroupVersion     string
	Name              string
}

func newSystemInfo(g *globals) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "info [OPTIONS]", Short: "Display what davit has on this host", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runSystemInfo(c.Context(), g, format) },
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	return c
}

func runSystemInfo(ctx context.Context, g *globals, format string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	i, err := s.info(ctx)
	if err != nil {
		return err
	}
	if format == "json" {
		format = "{{json .}}"
	}
	if format != "" {
		return render.Documents(g.out, format, []any{i})
	}
	fmt.Fprintf(g.out, "Containers: %d\n Running: %d\n Paused: %d\n Stopped: %d\nImages: %d\nVolumes: %d\nProjects: %d\n",
		i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped, i.Images, i.Volumes, i.Projects)
	fmt.Fprintf(g.out, "Version: %s\nStorage Driver: %s\nCgroup Version: %s\nKernel Version: %s\nArchitecture: %s\nCPUs: %d\nTotal Memory: %s\nName: %s\nRoot Dir: %s\nRun Dir: %s\n",
		i.ServerVersion, i.Driver, i.CgroupVersion, i.KernelVersion, i.Architecture, i.NCPU, units.BytesSize(float64(i.MemTotal)), i.Name, i.DockerRootDir, i.RunDir)
	return nil
}

func (s *session) info(ctx context.Context) (infoJSON, error) {
	l := s.engine.Layout()
	i := infoJSON{ServerVersion: Version, Driver: "overlay", DockerRootDir: l.Data, RunDir: l.Run, OSType: runtime.GOOS, NCPU: runtime.NumCPU(), CgroupVersion: "1"}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		i.KernelVersion, i.Architecture, i.Name = unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), unix.ByteSliceToString(u.Nodename[:])
	}
	var sys unix.Sysinfo_t
	if unix.Sysinfo(&sys) == nil {
		i.MemTotal = int64(sys.Totalram) * int64(sys.Unit)
	}
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		i.CgroupVersion = "2"
	}
	images, err := s.engine.ImageStore().List()
	if err != nil {
		return i, err
	}
	volumes, err := s.engine.VolumeStore().List()
	if err != nil {
		return i, err
	}
	projects, err := s.engine.Projects(ctx)
	if err != nil {
		return i, err
	}
	i.Images, i.Volumes, i.Projects = len(images), len(volumes), len(projects)
	for _, p := range projects {
		all, err := s.engine.Containers(ctx, p)
		if err != nil {
			return i, err
		}
		for _, c := range all {
			i.Containers++
			switch c.State.Status {
			case "running", "restarting":
				i.ContainersRunning++
			case "paused":
				i.ContainersPaused++
			default:
				i.ContainersStopped++
			}
		}
	}
	return i, nil
}

type systemPruneOptions struct {
	pruneOptions
	volumes bool
}

func newSystemPrune(g *globals) *cobra.Command {
	var o systemPruneOptions
	c := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove unused data", Args: cobra.NoArgs,
		Long: "Removes images that no container has, layers and leftovers that nothing refers to, and\ncontents of secrets whose containers are gone. Containers and networks are their projects' (davit down).",
		RunE: func(c *cobra.Command, _ []string) error { return runSystemPrune(c.Context(), g, o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Remove all unused images not just dangling ones")
	f.BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	f.BoolVar(&o.volumes, "volumes", false, "Prune anonymous volumes")
	f.StringArrayVar(&o.filter, "filter", nil, `Provide filter values (such as "label=team=blue", "until=24h")`)
	return c
}

// runSystemPrune gives back what nothing refers to.
func runSystemPrune(ctx context.Context, g *globals, o systemPruneOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	what := "This will remove:\n  - all dangling images\n  - layers and leftovers that nothing refers to"
	if o.all {
		what = strings.Replace(what, "all dangling images", "all images without at least one container associated to them", 1)
	}
	if o.volumes {
		what += "\n  - all anonymous volumes not used by at least one container"
	}
	if ok, err := s.agreed(ctx, o.force, what); err != nil || !ok {
		return err
	}
	var sum int64
	if o.volumes {
		names, freed, err := s.pruneVolumes(ctx, pruneOptions{})
		if err != nil {
			return err
		}
		s.listPruned("Deleted Volumes:", names)
		sum += freed
	}
	if _, err := s.engine.ForgetFiles(s.dryRun); err != nil {
		return err
	}
	names, freed, err := s.pruneImages(ctx, o.pruneOptions)
	s.printPruned("Deleted Images:", names, sum+freed)
	return err
}

// pruneImages removes images and tells of it in docker's words.
func (s *session) pruneImages(ctx context.Context, o pruneOptions) (lines []string, freed int64, err error) {
	p := local.ImagePrune{All: o.all, Dry: s.dryRun}
	for _, f := range o.filter {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "label":
			p.Labels = append(p.Labels, value)
		case "dangling":
			p.All = value == "false" || value == "0"
		case "until":
			if p.Before, err = momentOf(value, time.Now()); err != nil {
				return nil, 0, err
			}
		default:
			return nil, 0, fmt.Errorf("filter %q: use one of dangling, label, until", f)
		}
	}
	s.patiently()
	removed, f, err := s.engine.PruneImages(ctx, p)
	for _, r := range removed {
		for _, n := range r.Untagged {
			lines = append(lines, "untagged: "+familiar(n))
		}
		if r.Deleted != "" {
			lines = append(lines, "deleted: "+r.Deleted)
		}
	}
	return lines, f.Bytes, err
}

// momentOf reads a moment as docker's filters take it: an age or a time.
func momentOf(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("until=%s: neither a span such as 24h nor a time such as 2026-01-31T12:00:00", s)
}
