package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Load puts the images that a davit does not have yet into its store. davit is
// the path of its executable; the store is the one its environment names.
func (c *Cache) Load(ctx context.Context, out io.Writer, davit string, ims ...Image) error {
	have, err := loaded(ctx, davit)
	if err != nil {
		return err
	}
	var missing []Image
	for _, im := range ims {
		id, err := c.ID(im)
		if err != nil {
			return err
		}
		if !has(have, id) {
			missing = append(missing, im)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, davit, "load")
	cmd.Stdout, cmd.Stderr = out, out
	return c.Feed(cmd, missing...)
}

// Feed runs a command that reads a docker-archive of the given images from its
// standard input.
func (c *Cache) Feed(cmd *exec.Cmd, ims ...Image) error {
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("load images: %w", err)
	}
	werr := c.WriteArchive(pipe, ims...)
	pipe.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("load images: %w", err)
	}
	return werr
}

// loaded returns the ids of the images that a davit has.
func loaded(ctx context.Context, davit string) ([]string, error) {
	b, err := exec.CommandContext(ctx, davit, "image", "ls", "--format", "json").Output()
	if err != nil {
		return nil, fmt.Errorf("list images of %s: %w", davit, err)
	}
	var ids []string
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var im struct{ ID string }
		if err := d.Decode(&im); err == io.EOF {
			return ids, nil
		} else if err != nil {
			return nil, fmt.Errorf("list images of %s: %w", davit, err)
		}
		ids = append(ids, im.ID)
	}
}

// has says whether one of ids is that of the image, in full or shortened.
func has(ids []string, id string) bool {
	return slices.ContainsFunc(ids, func(i string) bool {
		i = strings.TrimPrefix(i, "sha256:")
		return len(i) >= 12 && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), i)
	})
}
