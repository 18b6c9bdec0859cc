package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
)

// simulate is what the host looks like after a plan was applied.
func simulate(a Actual, steps []Step) Actual {
	out := Actual{
		Networks: maps.Clone(a.Networks), Volumes: maps.Clone(a.Volumes), Images: maps.Clone(a.Images),
		Pulled: a.Pulled, Containers: slices.Clone(a.Containers), Others: a.Others,
	}
	set := func(name string, change func(*ActualContainer)) {
		for i := range out.Containers {
			if out.Containers[i].Name == name {
				change(&out.Containers[i])
			}
		}
	}
	for _, s := range steps {
		switch do := s.Do.(type) {
		case BuildImage:
			out.Images[do.Ref] = "built"
		case PullImage:
			out.Images[do.Ref] = "pulled"
		case CreateNetwork:
			out.Networks[do.Network.Name] = do.Network
		case RemoveNetwork:
			delete(out.Networks, do.Name)
		case CreateVolume:
			out.Volumes[do.Volume.Name] = do.Volume
		case RemoveVolume:
			delete(out.Volumes, do.Name)
		case RemoveImage:
			delete(out.Images, do.Ref)
		case CreateContainer:
			c := engine.Container{ID: "new-" + do.Name, Name: do.Name, Spec: do.Spec, ImageID: out.Images[do.Spec.Image], Volumes: do.Inherit}
			if name, ok := strings.CutPrefix(c.Spec.NetworkMode, "container:"); ok && out.Others[name] != "" {
				c.Spec.NetworkMode = "container:" + out.Others[name]
			}
			if service, ok := strings.CutPrefix(c.Spec.NetworkMode, "service:"); ok {
				for _, x := range out.Containers {
					if x.Service() == service {
						c.Spec.NetworkMode = "container:" + x.ID
					}
				}
			}
			out.Containers = append(out.Containers, ActualContainer{Container: c, State: engine.State{Status: engine.Created}})
		case StartContainer:
			set(do.Name, func(c *ActualContainer) {
				c.State = engine.State{Status: engine.Running, Health: &engine.Health{Status: "healthy"}}
			})
		case UpdateContainer:
			set(do.Name, func(c *ActualContainer) { c.Spec = do.Spec })
		case StopContainer:
			set(do.Name, func(c *ActualContainer) { c.State = engine.State{Status: engine.Exited} })
		case KillContainer:
			set(do.Name, func(c *ActualContainer) { c.State = engine.State{Status: engine.Exited, ExitCode: 137} })
		case PauseContainer:
			set(do.Name, func(c *ActualContainer) { c.State.Status = engine.Paused })
		case UnpauseContainer:
			set(do.Name, func(c *ActualContainer) { c.State.Status = engine.Running })
		case RemoveContainer:
			out.Containers = slices.DeleteFunc(out.Containers, func(c ActualContainer) bool {
				return c.ID == do.ID || do.ID == "" && c.Name == do.Name
			})
		case Await:
			for _, n := range do.Names {
				set(n, func(c *ActualContainer) {
					if do.Condition == Completed {
						c.State = engine.State{Status: engine.Exited}
					} else {
						c.State.Health = &engine.Health{Status: "healthy"}
					}
				})
			}
		default:
			panic(fmt.Sprintf("simulate %T", do))
		}
	}
	return out
}
