package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
)

// decide gives every wanted container its verdict, dependencies first.
func (p *planner) decide() {
	p.compareNetworks()
	p.compareVolumes()
	for _, c := range p.wanted {
		v := p.judge(c)
		p.verdicts[c.Name] = v
		if v.fate == create || v.fate == replace {
			p.touched[c.Service] = true
		}
	}
}

func (p *planner) judge(c Container) verdict {
	old := p.have[c.Name]
	if c.Service == p.options.Except {
		return verdict{keep, ""}
	}
	if old == nil {
		return verdict{create, "there is none yet"}
	}
	if why := p.mustReplace(c, old); why != "" {
		return verdict{replace, why}
	}
	news := p.inPlace(c, old)
	switch {
	case p.follows(c, old) && news != "":
		return verdict{replace, news}
	case p.follows(c, old):
		return verdict{restart, "a service it depends on is replaced"}
	case news != "":
		return verdict{amend, news}
	case old.Alive():
		return verdict{keep, ""}
	case c.Once && met(old, Completed):
		return verdict{keep, ""}
	case old.State.Status == engine.Created:
		return p.unstarted("it was not started yet")
	}
	return p.unstarted(fmt.Sprintf("it exited (%d)", old.State.ExitCode))
}

func (p *planner) unstarted(why string) verdict {
	if p.options.NoStart {
		return verdict{keep, ""}
	}
	return verdict{start, why}
}

// mustReplace says why the container must be another one, or "".
func (p *planner) mustReplace(c Container, old *ActualContainer) string {
	switch s := old.State.Status; s {
	case engine.Dead, engine.Removing:
		return "it is " + string(s)
	}
	if p.options.NoRecreate {
		return ""
	}
	if p.options.ForceRecreate && p.named(c.Service) {
		return "asked to recreate"
	}
	if p.options.RecreateDeps && !p.named(c.Service) {
		return "asked to recreate dependencies"
	}
	for _, s := range c.Joins {
		if v := p.verdicts[p.first(s)]; v.fate == replace || v.fate == create {
			return fmt.Sprintf("it lives in the namespaces of %s, which is replaced", s)
		}
	}
	if changes := Changed(old.Spec, p.joined(c).Spec); len(changes) > 0 && p.inPlace(c, old) == "" {
		return reason(changes)
	}
	return p.beneath(c, old)
}

// beneath says what changed below the container's definition: its image, a
// network, a volume.
func (p *planner) beneath(c Container, old *ActualContainer) string {
	id := p.actual.Images[c.Spec.Image]
	if id != "" && old.ImageID != "" && id != old.ImageID {
		return fmt.Sprintf("image %s %s → %s", c.Spec.Image, short(old.ImageID), short(id))
	}
	for _, e := range c.Spec.Endpoints {
		if why := p.networkNews[e.Network]; why != "" {
			return "network " + e.Network + ": " + why
		}
	}
	for _, m := range c.Spec.Mounts {
		if why := p.volumeNews[m.Source]; m.Type == engine.MountVolume && why != "" {
			return "volume " + m.Source + ": " + why
		}
	}
	return ""
}

// recognise finds the container of each name. There may be two records of one
// while it is being replaced, or after that was cut short: the one that is as
// it is asked for stays, a living one rather than one at rest; else the newer.
func (p *planner) recognise() {
	all := p.actual.Containers
	for i := range all {
		if had := p.have[all[i].Name]; had == nil || p.better(&all[i], had) {
			p.have[all[i].Name] = &all[i]
		}
	}
	for i := range all {
		a := &all[i]
		if p.have[a.Name] != a {
			p.further[a.Name] = append(p.further[a.Name], a.ID)
		}
		if strings.HasPrefix(a.Spec.NetworkMode, "container:") {
			p.lodgers = append(p.lodgers, a)
		}
	}
}

func (p *planner) better(a, than *ActualContainer) bool {
	if p.matches(a) != p.matches(than) {
		return p.matches(a)
	}
	if p.matches(a) && a.Alive() != than.Alive() {
		return a.Alive()
	}
	return a.Created.After(than.Created)
}

// matches says whether a record is as its container is asked for.
func (p *planner) matches(a *ActualContainer) bool {
	for _, c := range p.desired.Containers {
		if c.Name == a.Name {
			return len(Changed(a.Spec, p.joined(c).Spec)) == 0
		}
	}
	return false
}

// joined is the container with service:NAME resolved as it was when the
// recorded definition was written, so that the two compare.
func (p *planner) joined(c Container) Container {
	resolve := func(mode string) string {
		if name, ok := strings.CutPrefix(mode, "container:"); ok && p.actual.Others[name] != "" {
			return "container:" + p.actual.Others[name]
		}
		service, ok := strings.CutPrefix(mode, "service:")
		if !ok {
			return mode
		}
		if a := p.have[p.first(service)]; a != nil {
			return "container:" + a.ID
		}
		return mode
	}
	c.Spec.NetworkMode = resolve(c.Spec.NetworkMode)
	c.Spec.Security.IPC = resolve(c.Spec.Security.IPC)
	c.Spec.Security.PID = resolve(c.Spec.Security.PID)
	return c
}

// follows says whether a running container is started again because one it
// depends on (depends_on: restart: true) is replaced.
func (p *planner) follows(c Container, old *ActualContainer) bool {
	if !old.Alive() || p.options.NoStart {
		return false
	}
	return slices.ContainsFunc(c.After, func(d Dependency) bool { return d.Restart && p.touched[d.Service] })
}

// short is an image id as people read it.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
