package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/davit-run/davit/engine"
)

// A legacyLayer is the json file beside each layer.tar of an archive that
// Docker before 1.10 saved.
type legacyLayer struct {
	ID           string             `json:"id"`
	Parent       string             `json:"parent"`
	Created      time.Time          `json:"created,omitzero"`
	Author       string             `json:"author"`
	Architecture string             `json:"architecture"`
	OS           string             `json:"os"`
	Config       engine.ImageConfig `json:"config"`
}

// legacyImages reads the oldest format: "repositories" names the topmost
// layer of each tag, and every layer names its parent. Such images have no
// configuration with diff ids, so one is made.
func (a *archive) legacyImages() ([]found, error) {
	var repos map[string]map[string]string
	if err := json.Unmarshal(a.json["repositories"], &repos); err != nil {
		return nil, fmt.Errorf("repositories: %w", err)
	}
	byTop := map[string]*found{}
	for repo, tags := range repos {
		for tag, top := range tags {
			if byTop[top] == nil {
				f, err := a.legacyImage(top)
				if err != nil {
					return nil, err
				}
				byTop[top] = &f
			}
			byTop[top].names = append(byTop[top].names, repo+":"+tag)
		}
	}
	var all []found
	for _, f := range byTop {
		all = append(all, *f)
	}
	if len(all) == 0 {
		return nil, errors.New("repositories: it names no image")
	}
	return all, nil
}

func (a *archive) legacyImage(top string) (found, error) {
	var chain []legacyLayer
	for id := top; id != ""; {
		if len(chain) > maxLayers {
			return found{}, fmt.Errorf("image %.64q: its layers form a circle or are more than %d", top, maxLayers)
		}
		b, err := a.file(id + "/json")
		if err != nil {
			return found{}, err
		}
		var l legacyLayer
		if err := json.Unmarshal(b, &l); err != nil {
			return found{}, fmt.Errorf("%s/json: %w", id, err)
		}
		l.ID = id
		chain = append(chain, l)
		id = l.Parent
	}
	slices.Reverse(chain)
	return a.legacyConfig(chain)
}

func (a *archive) legacyConfig(chain []legacyLayer) (found, error) {
	last := chain[len(chain)-1]
	c := configuration{
		Created: last.Created, Author: last.Author, Architecture: last.Architecture, OS: last.OS,
		Config: last.Config, RootFS: rootFS{Type: "layers"},
	}
	var f found
	for _, l := range chain {
		entry := l.ID + "/layer.tar"
		id, err := a.diffID(entry)
		if err != nil {
			return f, err
		}
		f.layers = append(f.layers, entry)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, "sha256:"+id)
		c.History = append(c.History, engine.History{Created: l.Created, Author: l.Author})
	}
	b, err := json.Marshal(c)
	f.config = b
	return f, err
}

// diffID stages an entry, because its digest is not written anywhere.
func (a *archive) diffID(entry string) (string, error) {
	p, err := a.part(entry)
	if err != nil {
		return "", err
	}
	if p.staged == nil {
		if p.staged, err = stage(a.ctx, a.layers, p.open()); err != nil {
			return "", fmt.Errorf("layer %q: %w", entry, err)
		}
	}
	return p.staged.ID, nil
}
