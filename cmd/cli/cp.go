package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/store/inroot"
	"github.com/davit-run/davit/reconcile"
)

type cpOptions struct {
	all, archive, follow bool
	index                int
}

func newCp(g *globals) *cobra.Command {
	var o cpOptions
	c := &cobra.Command{
		Use:   "cp [OPTIONS] SERVICE:SRC_PATH DEST_PATH|-\n  davit cp [OPTIONS] SRC_PATH|- SERVICE:DEST_PATH",
		Short: "Copy files/folders between a service container and the local filesystem",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runCp(c.Context(), g, o, args[0], args[1])
		},
	}
	f := c.Flags()
	f.BoolVar(&o.all, "all", false, "Include containers created by the run command")
	f.BoolVarP(&o.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	f.BoolVarP(&o.follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	f.IntVar(&o.index, "index", 0, "Index of the container if service has multiple replicas")
	return c
}

// runCp copies out of the first container of a service, or into all of them.
func runCp(ctx context.Context, g *globals, o cpOptions, from, to string) error {
	d, err := direction(from, to)
	if err != nil {
		return err
	}
	s, err := g.find(ctx, []string{d.container})
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	all, err := s.copied(o, d.container)
	if err != nil {
		return err
	}
	return s.copyFiles(ctx, o, all, d)
}

// A copying is what cp was asked for: from and to are paths, one of them in a
// container.
type copying struct {
	container string // or service
	from, to  string
	out       bool // out of the container
}

func direction(from, to string) (copying, error) {
	source, sourcePath := splitCopy(from)
	target, targetPath := splitCopy(to)
	switch {
	case source != "" && target != "":
		return copying{}, errors.New("copying between containers is not supported: copy to this host first")
	case source == "" && target == "":
		return copying{}, errors.New("unknown copy direction: write NAME:PATH for one of the two")
	}
	return copying{container: source + target, from: sourcePath, to: targetPath, out: source != ""}, nil
}

// copyFiles copies out of the first of the containers, or into all of them.
func (s *session) copyFiles(ctx context.Context, o cpOptions, all []reconcile.ActualContainer, d copying) error {
	if s.dryRun {
		from, to := d.from, d.container+":"+d.to
		if d.out {
			from, to = d.container+":"+d.from, d.to
		}
		_, err := fmt.Fprintf(s.out, "copy %s to %s\n", from, to)
		return err
	}
	if d.out {
		return s.copyOut(ctx, o, all[0], d.from, d.to)
	}
	if d.from == "-" && len(all) > 1 {
		return fmt.Errorf("%s has %d containers, and standard input is read once: choose one with --index", d.container, len(all))
	}
	for _, a := range all {
		if err := s.copyIn(ctx, o, a, d.from, d.to); err != nil {
			return err
		}
	}
	return nil
}

// splitCopy parts SERVICE:PATH; a path of this host has no service. As with
// docker cp, what begins with / or . is of this host.
func splitCopy(arg string) (service, path string) {
	if arg == "-" || filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	service, path, ok := strings.Cut(arg, ":")
	if !ok {
		return "", arg
	}
	return service, path
}

// copied are the containers of a service that cp is about.
func (s *session) copied(o cpOptions, service string) ([]reconcile.ActualContainer, error) {
	var out []reconcile.ActualContainer
	for _, a := range s.containers([]string{service}, o.all) {
		if o.index == 0 || a.Number() == o.index {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no container found for service %q", service)
	}
	return out, nil
}

// copyOut copies from a container to this host, or to standard output.
func (s *session) copyOut(ctx context.Context, o cpOptions, a reconcile.ActualContainer, from, to string) error {
	root, done, err := s.engine.Files(ctx, snapshot(a), local.SeenFiles)
	if err != nil {
		return err
	}
	defer done()
	source := local.Spot{Root: root, Path: from}
	opts := local.CopyOptions{Follow: o.follow, NoDevices: true}
	if to == "-" {
		if isTerminal(s.out) {
			return errors.New("an archive is nothing for a terminal: redirect the output, or name a place to copy to")
		}
		return local.CopyOut(ctx, source, local.CopyOptions{Follow: o.follow}, s.out)
	}
	if !o.archive {
		uid, gid := local.Owner()
		opts.Owner = &layer.Owner{UID: uid, GID: gid}
	}
	dest, closeDest, err := receiving(to)
	if err != nil {
		return err
	}
	defer closeDest()
	return s.copying(a, a.Name+":"+from, to, func() error { return local.Copy(ctx, source, dest, opts) })
}

// receiving opens the place of this host that takes files from a container.
// The directory they go to is a root: links in it lead nowhere else.
func receiving(to string) (local.Spot, func(), error) {
	abs, err := filepath.Abs(to)
	if err != nil {
		return local.Spot{}, nil, err
	}
	dir, rest := abs, "."
	if st, err := os.Stat(abs); err != nil || !st.IsDir() {
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			abs = real // a link to a file means the file
		}
		dir, rest = filepath.Split(abs)
	}
	if strings.HasSuffix(to, "/") && rest != "." {
		rest += "/"
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return local.Spot{}, nil, err
	}
	return local.Spot{Root: root, Path: rest}, func() { root.Close() }, nil
}

// copyIn copies from this host, or from standard input, to a container.
func (s *session) copyIn(ctx context.Context, o cpOptions, a reconcile.ActualContainer, from, to string) error {
	if !a.Alive() { // nobody may start it meanwhile
		if err := s.lock(ctx); err != nil {
			return err
		}
		defer s.release()
		state, err := s.engine.State(ctx, s.name, a.ID)
		if err != nil {
			return err
		}
		a.State = state
	}
	root, done, err := s.engine.Files(ctx, snapshot(a), local.WriteFiles)
	if err != nil {
		return err
	}
	defer done()
	dest := local.Spot{Root: root, Path: to}
	opts := local.CopyOptions{Follow: o.follow}
	if !o.archive {
		opts.Owner = &layer.Owner{}
	}
	if from == "-" {
		return local.CopyIn(ctx, s.in, dest, local.CopyOptions{})
	}
	source, closeSource, err := sending(from)
	if err != nil {
		return err
	}
	defer closeSource()
	return s.copying(a, from, a.Name+":"+to, func() error { return local.Copy(ctx, source, dest, opts) })
}

// sending opens a path of this host to be copied from.
func sending(from string) (local.Spot, func(), error) {
	abs, err := filepath.Abs(from)
	if err != nil {
		return local.Spot{}, nil, err
	}
	for _, end := range []string{"/.", "/"} {
		if strings.HasSuffix(from, end) || from == "." && end == "/." {
			abs += end
			break
		}
	}
	root, err := inroot.Open("/")
	if err != nil {
		return local.Spot{}, nil, err
	}
	return local.Spot{Root: root, Path: abs}, func() { root.Close() }, nil
}

// copying tells what is copied while it is.
func (s *session) copying(a reconcile.ActualContainer, from, to string, copy func() error) error {
	show, err := s.progressFor("copy")
	if err != nil {
		return err
	}
	defer show.Close()
	show.Report(event(a.Name, fmt.Sprintf("Copying %s to %s", from, to), false, nil))
	if err := copy(); err != nil {
		show.Report(event(a.Name, "Error", true, err))
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	show.Report(event(a.Name, fmt.Sprintf("Copied %s to %s", from, to), true, nil))
	return nil
}

func snapshot(a reconcile.ActualContainer) engine.Snapshot {
	return engine.Snapshot{Container: a.Container, State: a.State}
}
