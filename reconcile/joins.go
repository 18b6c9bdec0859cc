package reconcile

import (
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
)

// joinNamed has containers that share the namespaces of another one of the
// project by its name (container:NAME) come after it, as those that name its
// service do.
func joinNamed(all []Container) []Container {
	service := map[string]string{}
	for _, c := range all {
		service[c.Name] = c.Service
	}
	var out []Container
	moved := false
	for _, c := range all {
		for _, mode := range []string{c.Spec.NetworkMode, c.Spec.Security.IPC, c.Spec.Security.PID} {
			name, ok := strings.CutPrefix(mode, "container:")
			if s := service[name]; ok && s != "" && s != c.Service && !slices.Contains(c.Joins, s) {
				c.Joins, moved = append(slices.Clone(c.Joins), s), true
			}
		}
		out = append(out, c)
	}
	if !moved {
		return out
	}
	return sortJoined(out)
}

// sortJoined keeps the order but for those that must come later.
func sortJoined(all []Container) []Container {
	var out []Container
	seen := map[string]bool{}
	var visit func(service string)
	visit = func(service string) {
		if seen[service] {
			return
		}
		seen[service] = true
		for _, c := range all {
			if c.Service == service {
				for _, s := range needs(c) {
					visit(s)
				}
			}
		}
		for _, c := range all {
			if c.Service == service {
				out = append(out, c)
			}
		}
	}
	for _, c := range all {
		visit(c.Service)
	}
	return out
}

// portHolders are the steps that stop the containers which hold a host port
// that c publishes: a port can move from one service to another in one plan.
func (p *planner) portHolders(c Container) []int {
	var after []int
	for _, a := range p.actual.Containers {
		if p.stopped[a.ID] != 0 && a.Name != c.Name && samePort(a.Spec.Ports, c.Spec.Ports) {
			after = append(after, p.stopped[a.ID])
		}
	}
	return after
}

func samePort(a, b []engine.Port) bool {
	last := func(p engine.Port) uint16 { return max(p.HostPort, p.HostPortEnd) }
	return slices.ContainsFunc(a, func(x engine.Port) bool {
		return slices.ContainsFunc(b, func(y engine.Port) bool {
			return x.HostPort != 0 && y.HostPort != 0 && x.Protocol == y.Protocol && x.HostPort <= last(y) && y.HostPort <= last(x)
		})
	})
}
