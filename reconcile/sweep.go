package reconcile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/davit-run/davit/engine"
)

// sweep removes what is there and not asked for: replicas above the scale and,
// when asked to, orphans.
func (p *planner) sweep() {
	var gone []ActualContainer
	why := map[string]string{}
	for _, a := range p.actual.Containers {
		if w := p.needless(a); w != "" {
			gone = append(gone, a)
			why[a.ID] = w
		}
	}
	// The youngest replica goes first.
	slices.SortStableFunc(gone, func(a, b ActualContainer) int {
		return cmp.Or(cmp.Compare(a.Service(), b.Service()), cmp.Compare(b.Number(), a.Number()))
	})
	for _, a := range gone {
		if p.have[a.Name].ID != a.ID {
			// One that never ran takes the anonymous volumes along that nobody
			// else refers to.
			p.take(a, "another record has its place", a.State.Status == engine.Created)
			continue
		}
		p.take(a, why[a.ID], false)
	}
}

func (p *planner) needless(a ActualContainer) string {
	if p.have[a.Name].ID != a.ID && p.takes(a.Service()) {
		return "another record has its place"
	}
	if Orphan(p.desired, a) {
		if p.options.RemoveOrphans {
			return "its service is not in the compose files"
		}
		return ""
	}
	if a.OneOff() || !p.takes(a.Service()) || a.Service() == p.options.Except {
		return ""
	}
	n := 0
	for _, c := range p.desired.Containers {
		if c.Service == a.Service() {
			n++
		}
		if c.Name == a.Name {
			return ""
		}
	}
	if n == 0 && !p.scaledToNone(a.Service()) {
		return ""
	}
	return fmt.Sprintf("%s has %d replica%s", a.Service(), n, plural(n))
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// scaledToNone tells a service with no replica from one that a profile shuts
// off, whose containers are left alone.
func (p *planner) scaledToNone(service string) bool {
	return slices.Contains(p.desired.Empty, service)
}

// Orphan says whether a container belongs to no service of the files; a
// finished one-off container does not either.
func Orphan(d Desired, a ActualContainer) bool {
	if a.OneOff() {
		return a.State.Status == engine.Exited || a.State.Status == engine.Dead
	}
	if d.Services != nil {
		return !slices.Contains(d.Services, a.Service())
	}
	return !slices.ContainsFunc(d.Containers, func(c Container) bool { return c.Service == a.Service() })
}

// take stops a container if it lives, and removes it.
func (p *planner) take(a ActualContainer, why string, volumes bool, after ...int) {
	if a.Alive() {
		do := StopContainer{ID: a.ID, Name: a.Name, Service: a.Service(), Timeout: p.options.Timeout, Removal: true}
		p.stopped[a.ID] = p.add(do, why, after...)
		after = []int{p.stopped[a.ID]}
	}
	do := RemoveContainer{ID: a.ID, Name: a.Name, Service: a.Service(), Volumes: volumes}
	p.gone[a.ID] = p.add(do, why, after...)
}

// ofName is the step among steps by id that is about the container which has a
// name; zero when none has it, or nothing happens to it.
func (p *planner) ofName(steps map[string]int, name string) int {
	if old := p.have[name]; old != nil {
		return steps[old.ID]
	}
	return 0
}

// surplus are the steps that remove the further records of a name.
func (p *planner) surplus(name string) []int {
	var after []int
	for _, id := range p.further[name] {
		after = append(after, p.gone[id])
	}
	return after
}

// createEarly writes the records of replacing containers before the replaced
// ones are touched: whatever ends davit in between, one of the two records
// still refers to the anonymous volumes. Only where a named volume is made anew
// the old container goes first, because nothing may refer to the volume then.
func (p *planner) createEarly() {
	for _, c := range p.wanted {
		v := p.verdicts[c.Name]
		if v.fate != replace || p.remakesVolume(c) {
			continue
		}
		after := append(append(p.surplus(c.Name), p.images(c)...), p.joinees(c)...)
		p.early[c.Name] = true
		p.created[c.Name] = p.add(p.creation(c, v), v.why, after...)
	}
}

func (p *planner) remakesVolume(c Container) bool {
	for _, m := range c.Spec.Mounts {
		if m.Type == engine.MountVolume && p.volumeNews[m.Source] != "" {
			return true
		}
	}
	return false
}

// stopReplaced stops what is replaced or restarted, dependants before what
// they depend on, and removes the former. An old container goes only when the
// image of the new one is there.
func (p *planner) stopReplaced() {
	for _, c := range slices.Backward(p.wanted) {
		v := p.verdicts[c.Name]
		if v.fate != replace && v.fate != restart {
			continue
		}
		old := *p.have[c.Name]
		after := append(p.dependantStops(c.Service), p.image[c.Spec.Image], p.created[c.Name])
		if v.fate == replace {
			p.take(old, v.why, p.options.RenewAnonymous, after...)
			continue
		}
		do := StopContainer{ID: old.ID, Name: old.Name, Service: c.Service, Timeout: p.options.Timeout, Restart: true}
		p.stopped[old.ID] = p.add(do, v.why, after...)
	}
}

// dependantStops are the steps that stop the containers that depend on a
// service.
func (p *planner) dependantStops(service string) []int {
	var after []int
	for _, c := range p.wanted {
		if slices.Contains(needs(c), service) {
			after = append(after, p.ofName(p.stopped, c.Name))
		}
	}
	return after
}
