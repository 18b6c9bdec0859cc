package reconcile

import (
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
)

// compareNetworks finds the networks whose definition changed.
func (p *planner) compareNetworks() {
	for _, n := range p.desired.Networks {
		was, ok := p.actual.Networks[n.Name]
		if !ok || n.External || p.options.NoRecreate {
			continue
		}
		if changes := networkChanged(was, n.Network); len(changes) > 0 {
			p.networkNews[n.Name] = reason(changes)
		}
	}
}

// compareVolumes finds the volumes whose definition changed and that nobody
// asked to keep as they are.
func (p *planner) compareVolumes() {
	for _, v := range p.desired.Volumes {
		was, ok := p.actual.Volumes[v.Name]
		if !ok || v.External || p.options.NoRecreate || slices.Contains(p.options.KeepVolumes, v.Name) {
			continue
		}
		if changes := volumeChanged(was, v.Volume); len(changes) > 0 {
			p.volumeNews[v.Name] = reason(changes)
		}
	}
}

// planNetworks makes the networks that are missing, and makes anew those that
// changed once nothing of the project is on them.
func (p *planner) planNetworks() {
	for _, n := range p.desired.Networks {
		_, there := p.actual.Networks[n.Name]
		news := p.networkNews[n.Name]
		if n.External || !p.usesNetwork(n.Name) || (there && news == "") {
			continue
		}
		gone, why := 0, "there is none yet"
		if there {
			why = news
			gone = p.add(RemoveNetwork{Name: n.Name}, why, p.leavers(n.Name)...)
		}
		p.network[n.Name] = p.add(CreateNetwork{Network: n.Network}, why, gone)
	}
}

// leavers are the steps after which no container is on a network.
func (p *planner) leavers(network string) []int {
	var after []int
	for _, a := range p.actual.Containers {
		for _, e := range a.Spec.Endpoints {
			if e.Network == network {
				after = append(after, p.gone[a.ID])
			}
		}
	}
	return after
}

// planVolumes makes the volumes that are missing. One whose definition changed
// is only made anew with a person's consent: its content is lost.
func (p *planner) planVolumes() {
	for _, v := range p.desired.Volumes {
		_, there := p.actual.Volumes[v.Name]
		news := p.volumeNews[v.Name]
		if v.External || !p.usesVolume(v.Name) || (there && news == "") {
			continue
		}
		gone, why := 0, "there is none yet"
		if there {
			why = news
			gone = p.add(RemoveVolume{Name: v.Name}, why, p.holders(v.Name)...)
			p.steps[gone-1].Consent = "Volume " + v.Name + " exists but doesn't match the compose file (" + news + "). Recreate it (its data will be lost)?"
		}
		p.volume[v.Name] = p.add(CreateVolume{Volume: v.Volume}, why, gone)
	}
}

// holders are the steps after which no container has a volume.
func (p *planner) holders(volume string) []int {
	var after []int
	for _, a := range p.actual.Containers {
		for _, name := range a.Volumes {
			if name == volume {
				after = append(after, p.gone[a.ID])
			}
		}
	}
	return after
}

func (p *planner) usesNetwork(name string) bool {
	return p.selected == nil || slices.ContainsFunc(p.wanted, func(c Container) bool {
		return slices.ContainsFunc(c.Spec.Endpoints, func(e engine.EndpointSpec) bool { return e.Network == name })
	})
}

func (p *planner) usesVolume(name string) bool {
	return p.selected == nil || slices.ContainsFunc(p.wanted, func(c Container) bool {
		return slices.ContainsFunc(c.Spec.Mounts, func(m engine.Mount) bool {
			return m.Type == engine.MountVolume && m.Source == name
		})
	})
}

// planImages builds and pulls what the wanted containers need and the host
// does not have, or has to look for again.
func (p *planner) planImages() {
	if p.options.ImagesReady {
		return
	}
	for _, i := range p.desired.Images {
		if p.image[i.Ref] == 0 && slices.ContainsFunc(p.wanted, func(c Container) bool { return needsImage(c, i.Ref) }) {
			p.planImage(i)
		}
	}
}

// needsImage says whether a container stands on an image or mounts it.
func needsImage(c Container, ref string) bool {
	if slices.ContainsFunc(c.PreStart, func(h Container) bool { return needsImage(h, ref) }) {
		return true
	}
	return c.Spec.Image == ref || slices.ContainsFunc(c.Spec.Mounts, func(m engine.Mount) bool {
		return m.Type == engine.MountImage && m.Source == ref
	})
}

func (p *planner) planImage(i Image) {
	present := p.actual.Images[i.Ref] != ""
	policy := i.PullPolicy
	if p.options.Pull != "" && p.options.Pull != "policy" {
		policy = p.options.Pull
	}
	build := i.Build && !p.options.NoBuild
	switch {
	case build && p.options.Build:
		p.build(i, "asked to build")
	case build && policy == "build":
		p.build(i, "its pull_policy is build")
	case policy == "always" || p.due(i, policy):
		p.pull(i, policy, "its pull policy is "+policy, build || present && Refreshes(policy))
		if build && !present {
			p.build(i, "the image may not be in a registry", p.image[i.Ref])
			p.steps[p.image[i.Ref]-1].Do = BuildImage{Service: i.Service, Ref: i.Ref, Fallback: true}
		}
	case present:
	case build:
		p.build(i, "the image is missing")
	default:
		p.pull(i, policy, "the image is missing", false)
	}
}

// Refreshes says whether a policy looks for a newer image now and then:
// refresh, daily, weekly, every_DURATION.
func Refreshes(policy string) bool {
	return policy == "refresh" || policy == "daily" || policy == "weekly" || strings.HasPrefix(policy, "every_")
}

// due says whether a policy that looks now and then has to look now: the image
// is missing, or was last looked for longer ago than the policy allows.
func (p *planner) due(i Image, policy string) bool {
	if !Refreshes(policy) {
		return false
	}
	if p.actual.Images[i.Ref] == "" {
		return true
	}
	return p.options.Now.Sub(p.actual.Pulled[i.Ref]) >= i.RefreshAfter
}

func (p *planner) build(i Image, why string, after ...int) {
	p.image[i.Ref] = p.add(BuildImage{Service: i.Service, Ref: i.Ref}, why, after...)
}

// pull is planned for a missing image whatever its policy: with never, the
// step's failure names what is missing.
func (p *planner) pull(i Image, policy, why string, optional bool) {
	do := PullImage{Ref: i.Ref, Platform: i.Platform, Policy: policy, Optional: optional}
	p.image[i.Ref] = p.add(do, why)
}
