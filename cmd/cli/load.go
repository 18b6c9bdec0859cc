package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/registry"
)

type loadOptions struct {
	file              string
	quiet, fromDocker bool
}

func newLoad(g *globals) *cobra.Command {
	var o loadOptions
	c := &cobra.Command{
		Use:   "load [OPTIONS] | load --from-docker IMAGE [IMAGE...]",
		Short: "Load images from an archive (docker save, OCI layout), standard input or a Docker engine",
		Long: "Loads images from an archive (docker save, OCI layout), from standard input, or, with --from-docker, out of\n" +
			"the Docker engine of this host: the one whose socket DOCKER_HOST names (unix://PATH), or /var/run/docker.sock.",
		RunE: func(c *cobra.Command, args []string) error {
			return runLoad(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.file, "input", "i", "", "Read from a file instead of standard input")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only print the names of what was loaded")
	f.BoolVar(&o.fromDocker, "from-docker", false, "Take the named images from the Docker engine of this host")
	c.MarkFlagsMutuallyExclusive("input", "from-docker")
	return c
}

// runLoad takes in an image archive and prints what came with it.
func runLoad(ctx context.Context, g *globals, o loadOptions, names []string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	in, from, err := s.loadFrom(ctx, o, names)
	if err != nil {
		return err
	}
	if in != nil {
		defer in.Close()
	}
	if s.dryRun {
		_, err := fmt.Fprintln(g.out, "load the images of", from)
		return err
	}
	images, err := s.engine.ImageStore().Load(ctx, in)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	for _, img := range images {
		for _, name := range loadedNames(img) {
			if o.quiet {
				fmt.Fprintln(g.out, strings.TrimPrefix(name, "ID: "))
			} else {
				fmt.Fprintln(g.out, "Loaded image "+name)
			}
		}
	}
	return nil
}

// loadFrom opens what load reads, and says what it is.
func (s *session) loadFrom(ctx context.Context, o loadOptions, names []string) (in io.ReadCloser, from string, err error) {
	if !o.fromDocker {
		if len(names) > 0 {
			return nil, "", fmt.Errorf("load %s: an archive is named with -i, an image of Docker's with --from-docker", names[0])
		}
		f, err := s.archive(o.file)
		if err != nil {
			return nil, "", err
		}
		return f, f.Name(), nil
	}
	if len(names) == 0 {
		return nil, "", errors.New("load --from-docker: name the images to take, as in: davit load --from-docker redis:7")
	}
	d, err := registry.FindDocker(os.Getenv("DOCKER_HOST"))
	if err != nil {
		return nil, "", err
	}
	if !s.dryRun {
		in, err = d.Save(ctx, names...)
	}
	return in, "Docker at " + d.Socket, err
}

func loadedNames(img engine.Image) []string {
	if len(img.Names) == 0 {
		return []string{"ID: " + img.ID}
	}
	var out []string
	for _, n := range img.Names {
		out = append(out, familiar(n))
	}
	return out
}

// familiar is a reference as people write it.
func familiar(name string) string {
	repository, tag := splitName(name)
	return repository + ":" + tag
}

// archive opens the named file, or standard input when nothing, or -, is
// named and something is on it.
func (g *globals) archive(file string) (*os.File, error) {
	if file != "" && file != "-" {
		return os.Open(file)
	}
	if isTerminal(g.in) {
		return nil, fmt.Errorf("there is no archive on standard input: name one with -i, or redirect it")
	}
	return os.NewFile(g.in.Fd(), "standard input"), nil
}

func newImage(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "image COMMAND",
		Short: "Manage the images of this host",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newImageBuild(g), newImageLs(g), newImageImport(g), newImageRm(g), newImageTag(g), newImageSave(g), newLoad(g),
		newImageInspect(g), newImageHistory(g), newImagePrune(g), newImagePull(g), newImagePush(g))
	return c
}

func newImageImport(g *globals) *cobra.Command {
	var changes []string
	c := &cobra.Command{
		Use:   "import [OPTIONS] ROOTFS.tar|- NAME",
		Short: "Make an image from the tar archive of a root file system",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runImageImport(c.Context(), g, args[0], args[1], changes)
		},
	}
	c.Flags().StringArrayVarP(&changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	return c
}

// runImageImport makes an image of one layer.
func runImageImport(ctx context.Context, g *globals, file, name string, changes []string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	in, err := g.archive(file)
	if err != nil {
		return err
	}
	defer in.Close()
	img, err := s.engine.ImageStore().Import(ctx, in, name, changes)
	if err != nil {
		return fmt.Errorf("%s: %w", in.Name(), err)
	}
	_, err = fmt.Fprintln(g.out, img.ID)
	return err
}

func newImageTag(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME",
		Short: "Give an image another name",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.close()
			return s.engine.ImageStore().Tag(args[0], args[1])
		},
	}
}

func newImageSave(g *globals) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Save images to an archive",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runImageSave(c.Context(), g, file, args)
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "Write to a file, instead of standard output")
	return c
}

// runImageSave writes an archive; one that could not be written whole is
// removed again.
func runImageSave(ctx context.Context, g *globals, file string, refs []string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	if file == "" {
		if isTerminal(g.out) {
			return fmt.Errorf("an archive is nothing for a terminal: use -o, or redirect the output")
		}
		return s.engine.ImageStore().Save(ctx, g.out, refs...)
	}
	return writeWhole(file, func(w io.Writer) error { return s.engine.ImageStore().Save(ctx, w, refs...) })
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, write func(io.Writer) error) error {
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
