package compose

import (
	"fmt"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
	godigest "github.com/opencontainers/go-digest"

	"github.com/davit-run/davit/project"
)

// pin puts the digest behind every image name that has none: of services, of
// their pre_start hooks and of volumes that are images.
func pin(p *types.Project, find func(image string) (string, error)) (*types.Project, error) {
	return p.WithImagesResolved(func(named reference.Named) (godigest.Digest, error) {
		found, err := find(named.String())
		if err != nil {
			return "", fmt.Errorf("find the digest of %s: %w", reference.FamiliarString(named), err)
		}
		return godigest.Digest(found), nil
	})
}

// locked is what an override file pins: the images of services, and the volumes
// that are images. A hook's image is not in it: hooks of several files add up,
// so that the override would run the hook twice.
func locked(p *types.Project) map[string]any {
	services := map[string]any{}
	for name, s := range p.Services {
		kept := map[string]any{}
		if s.Image != "" {
			kept["image"] = s.Image
		}
		var volumes []types.ServiceVolumeConfig
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeImage {
				volumes = append(volumes, v)
			}
		}
		if volumes != nil {
			kept["volumes"] = volumes
		}
		if len(kept) > 0 {
			services[name] = kept
		}
	}
	return map[string]any{"services": services}
}

// warnOfHooks tells of the hooks that an override file does not pin.
func (l *loaded) warnOfHooks() {
	for _, name := range slices.Sorted(maps.Keys(l.model.Services)) {
		if slices.ContainsFunc(l.model.Services[name].PreStart, func(h types.PreStartHook) bool { return h.Image != "" }) {
			l.warnOfHook(name)
		}
	}
}

func (l *loaded) warnOfHook(service string) {
	key := "services." + service + ".pre_start"
	l.warns = append(l.warns, project.Warning{Position: l.tree.index.Locate(key), Key: key,
		Text: "pre_start hook images are not pinned in the override file produced by --lock-image-digests, use the full --resolve-image-digests output to pin them"})
}

// pinModel is pin for files that are not interpolated. A name with ${…} in it
// has no digest yet, and stays as it is.
func pinModel(model map[string]any, find func(image string) (string, error)) error {
	p := &types.Project{Services: types.Services{}}
	references(model, func(image string) string {
		var s types.ServiceConfig
		s.Image = image
		p.Services[image] = s
		return image
	})
	pinned, err := pin(p, find)
	if err != nil {
		return err
	}
	references(model, func(image string) string { return pinned.Services[image].Image })
	return nil
}

// references puts other names in the place of all that a model's services,
// their hooks and their volumes have for images.
func references(model map[string]any, other func(image string) string) {
	change := func(v any, key string) {
		m, _ := v.(map[string]any)
		if image, ok := m[key].(string); ok && image != "" && !interpolated(image) {
			m[key] = other(image)
		}
	}
	each(model["services"], func(_ string, s any) {
		change(s, "image")
		each(at(s, "pre_start"), func(_ string, hook any) { change(hook, "image") })
		each(at(s, "volumes"), func(_ string, v any) {
			if at(v, "type") == types.VolumeTypeImage {
				change(v, "source")
			}
		})
	})
}

// lockedModel is locked for files that are not interpolated.
func lockedModel(l *loaded, model map[string]any) map[string]any {
	services := map[string]any{}
	each(model["services"], func(name string, s any) {
		kept := map[string]any{}
		if image := at(s, "image"); image != nil {
			kept["image"] = image
		}
		var volumes []any
		each(at(s, "volumes"), func(_ string, v any) {
			if at(v, "type") == types.VolumeTypeImage {
				volumes = append(volumes, v)
			}
		})
		if volumes != nil {
			kept["volumes"] = volumes
		}
		if at(s, "pre_start") != nil {
			l.warnOfHook(name)
		}
		if len(kept) > 0 {
			services[name] = kept
		}
	})
	return map[string]any{"services": services}
}
