package reconcile

// LabelHook tells the containers of pre_start hooks, by their place in the
// list.
const LabelHook = LabelPrefix + "hook-index"

// before adds the steps that run a container's pre_start hooks, one after the
// other, each to its end, and returns what the container's start waits for. A
// hook that did well is removed; one that failed stays, to be looked at, until
// the next attempt.
func (p *planner) before(c Container, after []int) []int {
	for _, h := range c.PreStart {
		done := p.hook(c, h, after)
		p.hooked[c.Service] = append(p.hooked[c.Service], done)
		after = append(after, done)
	}
	return append(after, p.hooked[c.Service]...)
}

// hook adds the steps of one pre_start hook and returns the one after which it
// has done its work.
func (p *planner) hook(c, h Container, after []int) int {
	why := "pre_start of " + c.Service
	if old := p.have[h.Name]; old != nil && p.gone[old.ID] == 0 {
		p.take(*old, "a former attempt", true)
	}
	before := append(append(p.images(h), p.ofName(p.gone, h.Name)), p.resources(h)...)
	do := CreateContainer{Name: h.Name, Service: h.Service, Number: h.Number, Spec: h.Spec, Hash: h.Hash}
	do.Spec.Labels = labelled(h)
	made := p.add(do, why, before...)
	begun := p.add(StartContainer{Name: h.Name, Service: h.Service}, why, append([]int{made}, after...)...)
	ended := p.add(Await{Service: h.Service, Names: []string{h.Name}, Condition: Completed, For: c.Service, Hook: true}, why, begun)
	p.add(RemoveContainer{Name: h.Name, Service: h.Service, Volumes: true}, "it has done its work", ended)
	return ended
}
