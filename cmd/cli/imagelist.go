package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
)

func newImages(g *globals) *cobra.Command {
	var format string
	var quiet bool
	c := &cobra.Command{
		Use:   "images [OPTIONS] [SERVICE...]",
		Short: "List images used by the created containers",
		RunE: func(c *cobra.Command, args []string) error {
			return runImages(c.Context(), g, format, quiet, args)
		},
	}
	c.Flags().StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display IDs")
	return c
}

// imageColumns are the columns of images.
var imageColumns = []render.Column{
	{Head: "CONTAINER", Key: "ContainerName"}, {Head: "REPOSITORY", Key: "Repository"}, {Head: "TAG", Key: "Tag"},
	{Head: "PLATFORM", Key: "platform"}, {Head: "IMAGE ID", Key: "shortID"}, {Head: "SIZE", Key: "size"}, {Head: "CREATED", Key: "created"},
}

// runImages lists the images that the project's containers stand on.
func runImages(ctx context.Context, g *globals, format string, quiet bool, services []string) error {
	s, err := g.find(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	t := render.Table{Columns: imageColumns, Wide: 20, Array: true}
	var ids []string
	for _, a := range s.containers(services, true) {
		img, err := s.engine.ImageStore().Resolve(a.ImageID)
		if errors.Is(err, image.ErrNotFound) {
			img = engine.Image{ID: a.ImageID, Names: []string{a.Spec.Image}}
		} else if err != nil {
			return err
		}
		ids = append(ids, img.ID)
		row := imageRow(img, a.Spec.Image, time.Now())
		row["ContainerName"] = a.Name
		t.Rows = append(t.Rows, row)
	}
	if quiet {
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			fmt.Fprintln(g.out, strings.TrimPrefix(id, "sha256:"))
		}
		return nil
	}
	if format == "json" {
		for _, r := range t.Rows {
			for _, key := range []string{"platform", "shortID", "size", "created"} {
				delete(r, key)
			}
		}
	}
	return t.Print(g.out, format)
}

// imageRow is one image as a row; name is the one it is shown under.
func imageRow(img engine.Image, name string, now time.Time) map[string]any {
	repository, tag := splitName(name)
	created := "N/A"
	if !img.Created.IsZero() {
		created = units.HumanDuration(max(0, now.Sub(img.Created))) + " ago"
	}
	platform := strings.Trim(img.OS+"/"+img.Arch+"/"+img.Variant, "/")
	return map[string]any{
		"ID": img.ID, "Repository": repository, "Tag": tag, "Platform": platform, "Size": img.Size,
		"Created": img.Created, "LastTagTime": img.Created,
		"platform": platform, "shortID": shortID(img.ID), "created": created, "size": units.HumanSizeWithPrecision(float64(img.Size), 3),
	}
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// splitName parts NAME:TAG as docker prints them.
func splitName(name string) (repository, tag string) {
	name, _, _ = strings.Cut(name, "@")
	for _, p := range []string{"docker.io/library/", "docker.io/"} {
		if rest, ok := strings.CutPrefix(name, p); ok {
			name = rest
			break
		}
	}
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.Contains(name[i:], "/") {
		return name, "latest"
	}
	return name[:i], name[i+1:]
}
