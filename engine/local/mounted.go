package local

import (
	"fmt"

	"github.com/davit-run/davit/engine"
)

// mountedImages notes which layers the container's image mounts show: those
// the images have now, whatever their names mean later.
func (e *Engine) mountedImages(c *engine.Container) error {
	for _, m := range c.Spec.Mounts {
		if m.Type != engine.MountImage {
			continue
		}
		img, err := e.images.Resolve(m.Source)
		if err != nil {
			return fmt.Errorf("mount at %s: %w; get it with davit pull or davit load", m.Target, err)
		}
		if c.MountLayers == nil {
			c.MountLayers = make(map[string][]string)
		}
		c.MountLayers[m.Target] = img.Layers
	}
	return nil
}
