package reconcile

import "slices"

// amenders are the steps after which other containers of the project, which run
// on, have given back the host ports that c is to publish.
func (p *planner) amenders(c Container) []int {
	var after []int
	for _, a := range p.actual.Containers {
		if p.amended[a.Name] != 0 && a.Name != c.Name && samePort(a.Spec.Ports, c.Spec.Ports) {
			after = append(after, p.amended[a.Name])
		}
	}
	return after
}

// rivals says whether another container of the project that runs publishes a
// host port that c asks for.
func (p *planner) rivals(c Container) bool {
	return slices.ContainsFunc(p.actual.Containers, func(a ActualContainer) bool {
		return a.Name != c.Name && a.Alive() && samePort(a.Spec.Ports, c.Spec.Ports)
	})
}
