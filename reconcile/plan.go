package reconcile

import (
	"slices"

	"github.com/davit-run/davit/engine"
)

// Plan returns the steps that turn actual into desired, in an order that never
// starts a container before the ones it depends on. The same arguments always
// give the same steps, and planning again after applying gives none (but for
// one-shots, which run again on every up).
//
// What a build or a pull brings is not known before it was done. A caller that
// finds image steps in a plan applies those first (Images), observes again and
// plans with ImagesReady.
func Plan(desired Desired, actual Actual, options Options) []Step {
	p := newPlanner(desired, actual, options)
	p.planImages()
	p.decide()
	p.sweep()
	p.createEarly()
	p.stopReplaced()
	p.planNetworks()
	p.planVolumes()
	p.amendAll()
	for _, c := range p.wanted {
		p.planContainer(c)
	}
	return p.steps
}

// Images returns only the steps of Plan that build or pull.
func Images(desired Desired, actual Actual, options Options) []Step {
	p := newPlanner(desired, actual, options)
	p.planImages()
	return p.steps
}

// A fate is what becomes of one wanted container.
type fate int

const (
	keep fate = iota
	start
	restart
	create
	replace
	amend
)

// A verdict is a container's fate and the reason for it.
type verdict struct {
	fate
	why string
}

// A planner holds what is known while one plan is made.
type planner struct {
	steps    []Step
	desired  Desired
	actual   Actual
	options  Options
	selected map[string]bool             // services to bring up; nil: all
	wanted   []Container                 // of the selected services
	have     map[string]*ActualContainer // by name
	further  map[string][]string         // the ids of the other records of a name
	lodgers  []*ActualContainer          // who live in another container's network
	verdicts map[string]verdict
	touched  map[string]bool // services with a container that is created or replaced

	networkNews map[string]string // networks and volumes to be made anew, and why
	volumeNews  map[string]string

	early  map[string]bool  // containers whose new record is written before the old one goes
	hooked map[string][]int // the steps after which a service's pre_start hooks are done

	// The step that brings each thing about, by name; absent when it needs none.
	image, network, volume, created, started, amended map[string]int
	stopped, gone                                     map[string]int // stops and removals, by container id: records may share a name
	awaited                                           map[await]int
}

type await struct {
	service, condition string
	optional           bool
}

func newPlanner(d Desired, a Actual, o Options) *planner {
	p := &planner{
		desired: d, actual: a, options: o,
		selected: selection(d.Containers, o),
		have:     map[string]*ActualContainer{}, further: map[string][]string{}, verdicts: map[string]verdict{}, touched: map[string]bool{},
		image: map[string]int{}, network: map[string]int{}, volume: map[string]int{},
		stopped: map[string]int{}, gone: map[string]int{}, created: map[string]int{}, started: map[string]int{}, amended: map[string]int{},
		early: map[string]bool{}, hooked: map[string][]int{}, awaited: map[await]int{}, networkNews: map[string]string{}, volumeNews: map[string]string{},
	}
	p.desired.Containers = joinNamed(d.Containers)
	for _, c := range p.desired.Containers {
		if p.takes(c.Service) && !c.Provider {
			p.wanted = append(p.wanted, c)
		}
	}
	p.recognise()
	return p
}

// add appends a step and returns its number. Zeroes among after, the numbers
// of steps that proved needless, are left out.
func (p *planner) add(do Action, why string, after ...int) int {
	after = slices.DeleteFunc(slices.Clone(after), func(id int) bool { return id == 0 })
	slices.Sort(after)
	s := Step{ID: len(p.steps) + 1, Do: do, Why: why, After: slices.Compact(after)}
	p.steps = append(p.steps, s)
	return s.ID
}

func (p *planner) takes(service string) bool { return p.selected == nil || p.selected[service] }

// named says whether the service was asked for itself, not only as what
// another one needs.
func (p *planner) named(service string) bool {
	return len(p.options.Services) == 0 || slices.Contains(p.options.Services, service)
}

// selection returns the services asked for and, unless NoDeps, what they need;
// nil for all.
func selection(all []Container, o Options) map[string]bool {
	if len(o.Services) == 0 {
		return nil
	}
	out := map[string]bool{}
	for _, s := range o.Services {
		out[s] = true
	}
	if o.NoDeps {
		return out
	}
	// Dependencies come first in the list, so one walk from its end finds all.
	for _, c := range slices.Backward(all) {
		if !out[c.Service] {
			continue
		}
		for _, s := range needs(c) {
			out[s] = true
		}
	}
	return out
}

// needs are the services without which the container cannot be made or
// started.
func needs(c Container) []string {
	var out []string
	for _, d := range c.After {
		out = append(out, d.Service)
	}
	return append(out, c.Joins...)
}

// planContainer adds the steps of one container: create, await what it needs,
// start.
func (p *planner) planContainer(c Container) {
	v := p.verdicts[c.Name]
	if (v.fate == create || v.fate == replace) && p.created[c.Name] == 0 {
		p.created[c.Name] = p.add(p.creation(c, v), v.why, p.beforeCreate(c)...)
	}
	if c.Service == p.options.Except {
		p.beforeStart(c)
	}
	if v.fate == keep || v.fate == amend || p.options.NoStart {
		return
	}
	after := append(p.surplus(c.Name), p.created[c.Name])
	after = append(after, p.beforeStart(c)...)
	after = append(after, p.amenders(c)...)
	switch {
	case p.early[c.Name]:
		after = append(after, p.vacated(c.Name))
		after = append(after, p.resources(c)...)
	case p.created[c.Name] == 0:
		after = append(after, p.ofName(p.stopped, c.Name))
		after = append(after, p.resources(c)...) // a down that was cut short has taken its networks
	}
	after = append(after, p.portHolders(c)...)
	after = p.before(c, after)
	do := StartContainer{Name: c.Name, Service: c.Service, Restart: v.fate == restart}
	p.started[c.Name] = p.add(do, v.why, after...)
}

// vacated is the step after which the container of a name has left its place to
// the next: address, ports and names are free when it has stopped, and its
// removal may take its time beside the other's start. Where another container
// lives on in its network, only the removal takes it out of there.
func (p *planner) vacated(name string) int {
	lodger := func(a *ActualContainer) bool {
		return a.Spec.NetworkMode == "container:"+p.have[name].ID && a.Alive() && p.stopped[a.ID] == 0
	}
	if stopped := p.ofName(p.stopped, name); stopped != 0 && !slices.ContainsFunc(p.lodgers, lodger) {
		return stopped
	}
	return p.ofName(p.gone, name)
}

func (p *planner) creation(c Container, v verdict) CreateContainer {
	do := CreateContainer{Name: c.Name, Service: c.Service, Number: c.Number, Spec: c.Spec, Hash: c.Hash}
	do.Spec.Labels = labelled(c)
	if v.fate != replace {
		return do
	}
	old := p.have[c.Name]
	do.Replaces, do.Renew = old.ID, p.options.RenewAnonymous
	if !do.Renew {
		do.Inherit = anonymous(old.Container)
	}
	return do
}

// anonymous returns the volumes of a container that nobody named, by target.
func anonymous(c engine.Container) map[string]string {
	named := map[string]bool{}
	for _, m := range c.Spec.Mounts {
		if m.Type == engine.MountVolume && m.Source != "" {
			named[m.Target] = true
		}
	}
	var out map[string]string
	for target, volume := range c.Volumes {
		if named[target] {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[target] = volume
	}
	return out
}

// beforeCreate is what must be there before the container's record is written.
func (p *planner) beforeCreate(c Container) []int {
	after := append(p.surplus(c.Name), p.ofName(p.gone, c.Name))
	after = append(after, p.images(c)...)
	return append(append(after, p.resources(c)...), p.joinees(c)...)
}

// images are the steps that bring the images of a container.
func (p *planner) images(c Container) []int {
	after := []int{p.image[c.Spec.Image]}
	for _, m := range c.Spec.Mounts {
		if m.Type == engine.MountImage {
			after = append(after, p.image[m.Source])
		}
	}
	return after
}

// resources are the steps that make the networks and volumes of a container.
func (p *planner) resources(c Container) []int {
	var after []int
	for _, e := range c.Spec.Endpoints {
		after = append(after, p.network[e.Network])
	}
	for _, m := range c.Spec.Mounts {
		if m.Type == engine.MountVolume {
			after = append(after, p.volume[m.Source])
		}
	}
	return after
}

// joinees are the steps that make the containers whose namespaces c shares.
func (p *planner) joinees(c Container) []int {
	var after []int
	for _, s := range c.Joins {
		if first := p.first(s); first != "" {
			after = append(after, p.created[first])
		}
	}
	return after
}

// beforeStart is what must have happened before the container's process
// starts.
func (p *planner) beforeStart(c Container) []int {
	var after []int
	for _, s := range c.Joins {
		after = append(after, p.started[p.first(s)])
	}
	if p.options.NoDeps {
		return after
	}
	for _, d := range c.After {
		after = append(after, p.await(c, d)...)
	}
	return after
}

// await returns the steps after which a dependency is as far as it must be.
func (p *planner) await(c Container, d Dependency) []int {
	var starts []int
	var names []string
	settled := true
	for _, x := range p.desired.Containers {
		if x.Service != d.Service || x.Provider {
			continue
		}
		names = append(names, x.Name)
		starts = append(starts, p.started[x.Name])
		settled = settled && p.started[x.Name] == 0 && met(p.have[x.Name], d.Condition)
	}
	if d.Condition == Started || len(names) == 0 || settled {
		return starts
	}
	key := await{d.Service, d.Condition, d.Optional}
	if p.awaited[key] == 0 {
		do := Await{Service: d.Service, Names: names, Condition: d.Condition, Optional: d.Optional, For: c.Service}
		p.awaited[key] = p.add(do, c.Service+" depends on it", starts...)
	}
	return []int{p.awaited[key]}
}

// met says whether a container meets a condition as it is.
func met(a *ActualContainer, condition string) bool {
	if a == nil {
		return false
	}
	switch condition {
	case Healthy:
		return a.State.Status == engine.Running && a.State.Health != nil && a.State.Health.Status == "healthy"
	case Completed:
		return a.State.Status == engine.Exited && a.State.ExitCode == 0
	}
	return a.Alive()
}

// first is the name of a service's first container.
func (p *planner) first(service string) string {
	for _, c := range p.desired.Containers {
		if c.Service == service {
			return c.Name
		}
	}
	return ""
}
