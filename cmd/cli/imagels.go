package cli

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
)

type imageLsOptions struct {
	format                  string
	quiet, noTrunc, digests bool
	filters                 []string
}

func newImageLs(g *globals) *cobra.Command {
	var o imageLsOptions
	var all bool
	c := &cobra.Command{
		Use:     "ls [OPTIONS] [REPOSITORY[:TAG]]",
		Aliases: []string{"list"},
		Short:   "List images",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				o.filters = append(o.filters, "reference="+a)
			}
			return runImageLs(g, o)
		},
	}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Show all images; davit keeps none that are hidden without it")
	f.BoolVar(&o.digests, "digests", false, "Show digests")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output by dangling=, label= or reference=")
	f.StringVar(&o.format, "format", "table", formatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only show image IDs")
	return c
}

// runImageLs lists the images of this host, one row a name.
func runImageLs(g *globals, o imageLsOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	images, err := s.engine.ImageStore().List()
	if err != nil {
		return err
	}
	t := o.table()
	for _, img := range images {
		names := img.Names
		if len(names) == 0 {
			names = []string{"<none>:<none>"}
		}
		for _, n := range names {
			row := imageRow(img, n, time.Now())
			hit, err := imageMatches(img, row["Repository"].(string), row["Tag"].(string), o.filters)
			if err != nil {
				return err
			}
			if hit {
				t.Rows = append(t.Rows, o.row(img, row))
			}
		}
	}
	if !o.quiet {
		return t.Print(g.out, o.format)
	}
	var ids []string
	for _, r := range t.Rows {
		if id := r["ID"].(string); !slices.Contains(ids, id) {
			ids = append(ids, id)
			fmt.Fprintln(g.out, id)
		}
	}
	return nil
}

func (o imageLsOptions) table() render.Table {
	t := render.Table{Columns: []render.Column{
		{Head: "REPOSITORY", Key: "Repository"}, {Head: "TAG", Key: "Tag"}, {Head: "DIGEST", Key: "Digest"},
		{Head: "IMAGE ID", Key: "ID"}, {Head: "CREATED", Key: "CreatedSince"}, {Head: "SIZE", Key: "Size"},
	}}
	if !o.digests {
		t.Columns = slices.Delete(t.Columns, 2, 3)
	}
	return t
}

func (o imageLsOptions) row(img engine.Image, row map[string]any) map[string]any {
	id, digest := row["shortID"], img.Digest
	if o.noTrunc {
		id = img.ID
	}
	if digest == "" {
		digest = "<none>"
	}
	return map[string]any{
		"Repository": row["Repository"], "Tag": row["Tag"], "ID": id, "Digest": digest,
		"CreatedSince": row["created"], "CreatedAt": img.Created.Format(time.RFC3339), "Size": row["size"],
	}
}

// imageMatches says whether one name of an image passes all filters. A
// reference may have the wildcards of path.Match; without a tag it means all.
func imageMatches(img engine.Image, repository, tag string, filters []string) (bool, error) {
	return passes(filters, func(key, value string) (bool, error) {
		switch key {
		case "dangling":
			return (len(img.Names) == 0) == saysYes(value), nil
		case "label":
			return labelMatches(img.Config.Labels, value), nil
		case "reference":
			whole, err := path.Match(value, repository+":"+tag)
			alone, _ := path.Match(value, repository)
			return whole || alone, err
		}
		return false, errors.New("use one of dangling, label, reference")
	})
}
