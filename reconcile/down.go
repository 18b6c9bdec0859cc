package reconcile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/davit-run/davit/engine"
)

// Down returns the steps that stop and remove a project's containers, in the
// reverse order of their dependencies, then its networks and, when asked to,
// its volumes and images. It works from the labels of what is there: desired
// may be empty but for the project's name, when no compose file is at hand.
func Down(desired Desired, actual Actual, options Options) []Step {
	p := newPlanner(desired, actual, Options{Timeout: options.Timeout})
	g := dependencies(desired, actual)
	var only map[string]bool
	if len(options.Services) > 0 {
		only = g.above(options.Services, false)
	}
	for _, a := range slices.Backward(g.sorted(actual, downTakes(desired, options, only))) {
		p.take(a, downWhy(desired, a), options.Volumes, p.upstops(g, a)...)
	}
	p.dropNetworks(only == nil)
	if only != nil {
		return p.steps
	}
	if options.Volumes {
		p.dropVolumes()
	}
	if options.Images != "" {
		p.dropImages(options.Images)
	}
	return p.steps
}

func downTakes(d Desired, o Options, only map[string]bool) func(ActualContainer) bool {
	fileless := d.Services == nil && len(d.Containers) == 0
	return func(a ActualContainer) bool {
		switch {
		case only != nil:
			return only[a.Service()]
		case fileless || o.RemoveOrphans:
			return true
		}
		return a.OneOff() && isDeclared(d, a.Service()) || !Orphan(d, a)
	}
}

func isDeclared(d Desired, service string) bool {
	return slices.Contains(d.Services, service) ||
		slices.ContainsFunc(d.Containers, func(c Container) bool { return c.Service == service })
}

func downWhy(d Desired, a ActualContainer) string {
	if a.OneOff() {
		return "it was made by run"
	}
	if (d.Services != nil || len(d.Containers) > 0) && !isDeclared(d, a.Service()) {
		return "its service is not in the compose files"
	}
	return "the project goes down"
}

// upstops are the steps that stop the containers which need a's service.
func (p *planner) upstops(g graph, a ActualContainer) []int {
	if a.OneOff() {
		return nil
	}
	var after []int
	for _, x := range p.actual.Containers {
		needs := slices.ContainsFunc(g[x.Service()], func(d Dependency) bool { return d.Service == a.Service() })
		if needs || x.OneOff() && x.Service() == a.Service() {
			after = append(after, p.stopped[x.ID])
		}
	}
	return after
}

// dropNetworks removes the project's networks. When only some services go
// down, or orphans stay, those that a container is left on stay too.
func (p *planner) dropNetworks(all bool) {
	for _, name := range slices.Sorted(maps.Keys(p.actual.Networks)) {
		if n := p.actual.Networks[name]; n.Project != p.desired.Project || p.external(name) {
			continue
		}
		used, left := p.onNetwork(name)
		if left || !all && len(used) == 0 {
			continue
		}
		p.add(RemoveNetwork{Name: name}, "the project goes down", used...)
	}
}

func (p *planner) external(network string) bool {
	return slices.ContainsFunc(p.desired.Networks, func(n Network) bool { return n.External && n.Name == network })
}

// onNetwork returns the steps that take containers off a network, and whether
// any stays. A container is off it when it has stopped: the kernel takes a
// third of a down to remove a bridge, and the files go meanwhile.
func (p *planner) onNetwork(network string) (after []int, left bool) {
	for _, a := range p.actual.Containers {
		if !slices.ContainsFunc(a.Spec.Endpoints, func(e engine.EndpointSpec) bool { return e.Network == network }) {
			continue
		}
		if p.gone[a.ID] == 0 {
			left = true
		}
		after = append(after, cmp.Or(p.stopped[a.ID], p.gone[a.ID]))
	}
	return after, left
}

// dropVolumes removes the project's own named volumes. Anonymous ones go with
// their containers; external ones stay.
func (p *planner) dropVolumes() {
	for _, name := range slices.Sorted(maps.Keys(p.actual.Volumes)) {
		v := p.actual.Volumes[name]
		if v.Project != p.desired.Project || v.Anonymous {
			continue
		}
		if slices.ContainsFunc(p.desired.Volumes, func(d Volume) bool { return d.External && d.Name == name }) {
			continue
		}
		p.add(RemoveVolume{Name: name}, "asked to remove volumes", p.holders(name)...)
	}
}

// dropImages removes the images of the services: all, or (local) those that
// davit built under a name of its own.
func (p *planner) dropImages(which string) {
	users := map[string][]int{}
	for _, a := range p.actual.Containers {
		users[a.Spec.Image] = append(users[a.Spec.Image], p.gone[a.ID])
	}
	for _, i := range p.desired.Images {
		if _, ok := users[i.Ref]; !ok && p.actual.Images[i.Ref] != "" {
			users[i.Ref] = nil
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(users)) {
		if which == "all" || p.own(ref) {
			p.add(RemoveImage{Ref: ref}, "asked to remove images", users[ref]...)
		}
	}
}

// own says whether an image carries the name davit gives to what it builds.
func (p *planner) own(ref string) bool {
	for _, c := range p.desired.Containers {
		if ref == p.desired.Project+"-"+c.Service {
			return true
		}
	}
	for _, a := range p.actual.Containers {
		if ref == p.desired.Project+"-"+a.Service() {
			return true
		}
	}
	return false
}
