package reconcile

import (
	"slices"

	"github.com/davit-run/davit/engine"
)

// inPlace says what changed of a running container that needs no other one:
// the networks it is on, its names there, its ports, its name servers and extra
// hosts. It says "" when nothing changed, or when something else did too.
func (p *planner) inPlace(c Container, old *ActualContainer) string {
	if !old.Alive() || p.options.NoRecreate {
		return ""
	}
	now := p.joined(c).Spec
	if old.Spec.NetworkMode != "" || now.NetworkMode != "" || !sameSeats(old.Spec.Endpoints, now.Endpoints) {
		return ""
	}
	if len(Changed(unplugged(old.Spec), unplugged(now))) > 0 {
		return ""
	}
	if len(compare(old.Spec.Ports, now.Ports)) > 0 && p.rivals(c) {
		return ""
	}
	return reason(Changed(old.Spec, now))
}

// unplugged is a definition without what can change while the container runs.
func unplugged(s engine.Spec) engine.Spec {
	s.Endpoints, s.Ports, s.Expose = nil, nil, nil
	s.DNS, s.DNSSearch, s.DNSOptions, s.ExtraHosts = nil, nil, nil, nil
	return s
}

// sameSeats says whether the container has the same addresses and interfaces on
// the networks that it is to stay on: a program may be bound to those.
func sameSeats(was, now []engine.EndpointSpec) bool {
	if len(now) == 0 {
		return false
	}
	for _, n := range now {
		i := slices.IndexFunc(was, func(w engine.EndpointSpec) bool { return w.Network == n.Network })
		if i < 0 {
			continue
		}
		w := was[i]
		same := w.IPv4 == n.IPv4 && w.IPv6 == n.IPv6 && slices.Equal(w.LinkLocal, n.LinkLocal) && w.MAC == n.MAC &&
			w.Interface == n.Interface && len(compare(w.DriverOpts, n.DriverOpts)) == 0
		if !same && !w.ByHand {
			return false
		}
	}
	return true
}

// asked leaves out the networks that a person connected a container to: no
// definition asked for them.
func asked(all []engine.EndpointSpec) []engine.EndpointSpec {
	if !slices.ContainsFunc(all, func(e engine.EndpointSpec) bool { return e.ByHand }) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(e engine.EndpointSpec) bool { return e.ByHand })
}

// amendAll changes containers in place. They come before every start, because
// they may give back ports that others ask for.
func (p *planner) amendAll() {
	for _, c := range p.wanted {
		if v := p.verdicts[c.Name]; v.fate == amend {
			after := append(p.resources(c), p.portHolders(c)...)
			p.amended[c.Name] = p.add(p.update(c, p.have[c.Name]), v.why, after...)
		}
	}
}

// update changes a running container; what a person connected it to stays.
func (p *planner) update(c Container, old *ActualContainer) UpdateContainer {
	spec := p.joined(c).Spec
	spec.Labels = labelled(c)
	for _, e := range old.Spec.Endpoints {
		if e.ByHand && !slices.ContainsFunc(spec.Endpoints, func(o engine.EndpointSpec) bool { return o.Network == e.Network }) {
			spec.Endpoints = append(slices.Clip(spec.Endpoints), e)
		}
	}
	return UpdateContainer{ID: old.ID, Name: c.Name, Service: c.Service, Spec: spec}
}
