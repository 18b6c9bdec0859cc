package reconcile

import (
	"cmp"
	"slices"
)

// A graph knows which services need which, from the compose files where they
// say so and from the containers' labels for all others.
type graph map[string][]Dependency

func dependencies(d Desired, a Actual) graph {
	g := graph{}
	for _, c := range a.Containers {
		if _, ok := g[c.Service()]; !ok && !c.OneOff() {
			g[c.Service()] = c.After()
		}
	}
	declared := map[string]bool{}
	for _, c := range d.Containers {
		if declared[c.Service] {
			continue
		}
		declared[c.Service] = true
		deps := slices.Clone(c.After)
		for _, s := range c.Joins {
			deps = append(deps, Dependency{Service: s, Condition: Started})
		}
		g[c.Service] = deps
	}
	return g
}

// depth is the length of the longest chain of dependencies below a service. A
// cycle, which only damaged labels can hold, counts once.
func (g graph) depth(service string, known map[string]int) int {
	if n, ok := known[service]; ok {
		return n
	}
	known[service] = 0
	n := 0
	for _, d := range g[service] {
		n = max(n, g.depth(d.Service, known)+1)
	}
	known[service] = n
	return n
}

// below returns the services and all that they need, one in the other.
func (g graph) below(services []string) map[string]bool {
	out := map[string]bool{}
	var visit func(string)
	visit = func(s string) {
		if out[s] {
			return
		}
		out[s] = true
		for _, d := range g[s] {
			visit(d.Service)
		}
	}
	for _, s := range services {
		visit(s)
	}
	return out
}

// above returns the services and all that need them; with restartOnly only
// those that follow a restart.
func (g graph) above(services []string, restartOnly bool) map[string]bool {
	out := map[string]bool{}
	for _, s := range services {
		out[s] = true
	}
	for grown := true; grown; {
		grown = false
		for s, deps := range g {
			if out[s] {
				continue
			}
			for _, d := range deps {
				if out[d.Service] && (d.Restart || !restartOnly) {
					out[s], grown = true, true
				}
			}
		}
	}
	return out
}

// sorted returns the containers that take accepts, dependencies first.
func (g graph) sorted(a Actual, take func(ActualContainer) bool) []ActualContainer {
	known := map[string]int{}
	var out []ActualContainer
	for _, c := range a.Containers {
		if take(c) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(x, y ActualContainer) int {
		return cmp.Or(
			cmp.Compare(g.level(x, known), g.level(y, known)),
			cmp.Compare(x.Service(), y.Service()),
			cmp.Compare(x.Number(), y.Number()),
			cmp.Compare(x.Name, y.Name),
		)
	})
	return out
}

// level puts one-off containers above their services: they go first.
func (g graph) level(c ActualContainer, known map[string]int) int {
	n := g.depth(c.Service(), known)
	if c.OneOff() {
		n++
	}
	return n
}
