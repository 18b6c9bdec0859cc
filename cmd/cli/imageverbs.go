package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/local"
)

// An imageJSON is an image as `docker image inspect` shows it.
type imageJSON struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      time.Time
	Author       string
	Config       engine.ImageConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	GraphDriver  struct {
		Name string
		Data map[string]string
	}
	RootFS struct {
		Type   string
		Layers []string
	}
	Metadata struct{ LastTagTime time.Time }
}

func newImageInspect(g *globals) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "inspect [OPTIONS] IMAGE [IMAGE...]", Short: "Display detailed information on images", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return g.inspectEach(format, args, func(s *session, ref string) (any, error) {
				img, err := s.engine.ImageStore().Resolve(ref)
				if err != nil {
					return nil, err
				}
				return s.inspectImage(img), nil
			})
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	return c
}

func (s *session) inspectImage(img engine.Image) imageJSON {
	out := imageJSON{
		ID: img.ID, RepoTags: []string{}, RepoDigests: []string{}, Parent: img.ParentID, Created: img.Created, Author: img.Author,
		Config: img.Config, Architecture: img.Arch, Variant: img.Variant, Os: img.OS, Size: img.Size,
	}
	if n := len(img.History); n > 0 {
		out.Comment = img.History[n-1].Comment
	}
	for _, name := range img.Names {
		out.RepoTags = append(out.RepoTags, image.Familiar(name))
		if img.Digest != "" {
			out.RepoDigests = append(out.RepoDigests, image.Familiar(image.Repository(name))+"@"+img.Digest)
		}
		if at, err := s.engine.ImageStore().NamedAt(name); err == nil && at.After(out.Metadata.LastTagTime) {
			out.Metadata.LastTagTime = at
		}
	}
	out.RootFS.Type, out.RootFS.Layers = "layers", img.DiffIDs
	if out.RootFS.Layers == nil {
		out.RootFS.Layers = []string{}
	}
	out.GraphDriver.Name = "overlay"
	var dirs []string
	for _, l := range img.Layers {
		dirs = append([]string{s.engine.Layout().LayerFS(l)}, dirs...)
	}
	out.GraphDriver.Data = map[string]string{"LowerDir": strings.Join(dirs, ":")}
	return out
}

type historyOptions struct {
	format         string
	quiet, noTrunc bool
	human          bool
}

func newImageHistory(g *globals) *cobra.Command {
	var o historyOptions
	c := &cobra.Command{
		Use: "history [OPTIONS] IMAGE", Short: "Show the history of an image", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return runImageHistory(g, o, args[0]) },
	}
	f := c.Flags()
	f.StringVar(&o.format, "format", "table", formatHelp)
	f.BoolVarP(&o.human, "human", "H", true, "Print sizes and dates in human readable format")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only show image IDs")
	return c
}

// runImageHistory tells of the instructions behind an image, the last first.
func runImageHistory(g *globals, o historyOptions, ref string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	img, err := s.engine.ImageStore().Resolve(ref)
	if err != nil {
		return err
	}
	t := render.Table{Columns: []render.Column{
		{Head: "IMAGE", Key: "ID"}, {Head: "CREATED", Key: "CreatedSince"}, {Head: "CREATED BY", Key: "CreatedBy"}, {Head: "SIZE", Key: "Size"}, {Head: "COMMENT", Key: "Comment"},
	}}
	layers, err := s.engine.ImageStore().Layers().Chains(img.Layers)
	if err != nil {
		return err
	}
	layer := len(layers)
	for i := len(img.History) - 1; i >= 0; i-- {
		h, size, id := img.History[i], int64(0), "<missing>"
		if !h.EmptyLayer && layer > 0 {
			layer--
			size, _ = s.engine.ImageStore().Layers().Sum(layers[layer])
		}
		if i == len(img.History)-1 {
			id = shortID(img.ID)
			if o.noTrunc {
				id = img.ID
			}
		}
		if o.quiet {
			fmt.Fprintln(g.out, id)
			continue
		}
		t.Rows = append(t.Rows, historyRow(h, id, size, o, time.Now()))
	}
	if o.quiet {
		return nil
	}
	return t.Print(g.out, o.format)
}

func historyRow(h engine.History, id string, size int64, o historyOptions, now time.Time) map[string]any {
	by := strings.ReplaceAll(h.CreatedBy, "\t", " ")
	if r := []rune(by); !o.noTrunc && len(r) > 45 {
		by = string(r[:44]) + "…"
	}
	since, text := "N/A", units.HumanSizeWithPrecision(float64(size), 3)
	if !h.Created.IsZero() {
		since = units.HumanDuration(max(0, now.Sub(h.Created))) + " ago"
	}
	if !o.human {
		since, text = h.Created.Format(time.RFC3339), fmt.Sprint(size)
	}
	return map[string]any{
		"ID": id, "CreatedSince": since, "CreatedAt": h.Created.Format(time.RFC3339), "CreatedBy": by, "Size": text, "Comment": h.Comment,
	}
}

func newImagePrune(g *globals) *cobra.Command {
	var o pruneOptions
	c := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove unused images", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runImagePrune(c.Context(), g, o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Remove all unused images, not just dangling ones")
	f.BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	f.StringArrayVar(&o.filter, "filter", nil, `Provide filter values (such as "until=24h", "label=team=blue")`)
	return c
}

// runImagePrune removes the images that nothing needs and the layers that
// only they had.
func runImagePrune(ctx context.Context, g *globals, o pruneOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	what := "This will remove all dangling images."
	if o.all {
		what = "This will remove all images without at least one container associated to them."
	}
	if ok, err := s.agreed(ctx, o.force, what); err != nil || !ok {
		return err
	}
	names, freed, err := s.pruneImages(ctx, o)
	s.printPruned("Deleted Images:", names, freed)
	return err
}

func newImagePull(g *globals) *cobra.Command {
	var platform string
	var quiet bool
	c := &cobra.Command{
		Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Download an image from a registry", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runImagePull(c.Context(), g, args[0], platform, quiet)
		},
	}
	c.Flags().StringVar(&platform, "platform", "", "Set platform, such as linux/arm64")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	return c
}

// runImagePull brings one image, whatever files say.
func runImagePull(ctx context.Context, g *globals, ref, platform string, quiet bool) error {
	return g.transferring(ctx, "pull", ref, quiet, func(s *session, o local.RegistryOptions) error {
		p, err := s.engine.Pull(ctx, ref, platform, o)
		if err != nil {
			return err
		}
		if quiet {
			_, err = fmt.Fprintln(g.out, nameOf(ref))
			return err
		}
		word := "Downloaded newer image for"
		if !p.Fresh {
			word = "Image is up to date for"
		}
		_, err = fmt.Fprintf(g.out, "Digest: %s\nStatus: %s %s\n%s\n", p.Digest, word, nameOf(ref), nameOf(ref))
		return err
	})
}

func newImagePush(g *globals) *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use: "push [OPTIONS] NAME[:TAG]", Short: "Upload an image to a registry", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ref := args[0]
			return g.transferring(c.Context(), "push", ref, quiet, func(s *session, o local.RegistryOptions) error {
				digest, err := s.engine.Push(c.Context(), ref, o)
				if err == nil {
					_, err = fmt.Fprintf(g.out, "%s: digest: %s\n", nameOf(ref), digest)
				}
				return err
			})
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	return c
}

// nameOf is a reference in its short form, the tag always there.
func nameOf(ref string) string {
	full, err := image.Normalise(ref)
	if err != nil {
		return ref
	}
	return image.Familiar(full)
}

// transferring runs a pull or push and shows how it comes along.
func (g *globals) transferring(ctx context.Context, verb, ref string, quiet bool, do func(*session, local.RegistryOptions) error) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	if s.dryRun {
		_, err := fmt.Fprintln(s.out, verb, "image", ref)
		return err
	}
	if quiet {
		s.progress = render.Quiet
	}
	show, err := s.progressFor(verb)
	if err != nil {
		return err
	}
	defer show.Close()
	return s.carry(show, verb, ref, func(o local.RegistryOptions) error { return do(s, o) })
}

func newImageRm(g *globals) *cobra.Command {
	var force, noPrune bool
	c := &cobra.Command{
		Use: "rm [OPTIONS] IMAGE [IMAGE...]", Aliases: []string{"remove"}, Short: "Remove images", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runImageRm(c.Context(), g, force, args) },
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Remove all names of an image that is given by its id; one that is not there is no error")
	c.Flags().BoolVar(&noPrune, "no-prune", false, "Do not delete untagged parents (there are none)")
	return c
}

// runImageRm takes names away, and images with their last name. The layers of
// one that a container has stay until that is gone.
func runImageRm(ctx context.Context, g *globals, force bool, refs []string) error {
	deleted := false
	err := g.forEach(refs, func(s *session, ref string) error {
		r, err := s.engine.Untag(ref, force)
		if errors.Is(err, image.ErrNotFound) && force {
			return errSkip
		}
		if err != nil {
			return err
		}
		for _, n := range r.Untagged {
			fmt.Fprintln(g.out, "Untagged:", image.Familiar(n))
		}
		if r.Deleted != "" {
			deleted = true
			fmt.Fprintln(g.out, "Deleted:", r.Deleted)
		}
		return nil
	})
	if !deleted {
		return err
	}
	return errors.Join(err, g.collect(ctx))
}

// collect takes the layers that nothing refers to any more, unless a build,
// pull or up is at work: a removed name is not worth waiting for those, and the
// next prune takes the layers.
func (g *globals) collect(ctx context.Context) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err = s.engine.Collect(soon, false)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		g.say("davit: the layers stay for now: a build, pull or up is at work (later: davit image prune)")
		return nil
	}
	return err
}

// patiently has a collection say so when it has to wait for others.
func (s *session) patiently() {
	s.engine.ImageStore().Layers().Waiting = func() { s.say("davit: waiting for a build, pull or up that is at work") }
}
