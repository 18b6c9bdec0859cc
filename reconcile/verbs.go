package reconcile

import (
	"slices"

	"github.com/davit-run/davit/engine"
)

// Stop returns the steps that end the running containers of the services (all
// when none is named), dependants before what they depend on.
func Stop(desired Desired, actual Actual, options Options) []Step {
	p := newPlanner(desired, actual, options)
	g := dependencies(desired, actual)
	for _, a := range slices.Backward(g.sorted(actual, among(options.Services))) {
		if a.Alive() {
			p.stop(a, "asked to stop", false, p.upstops(g, a)...)
		}
	}
	return p.steps
}

func (p *planner) stop(a ActualContainer, why string, again bool, after ...int) {
	do := StopContainer{ID: a.ID, Name: a.Name, Service: a.Service(), Timeout: p.options.Timeout, Restart: again}
	p.stopped[a.ID] = p.add(do, why, after...)
}

// among accepts the containers of the named services, one-offs left out.
func among(services []string) func(ActualContainer) bool {
	return func(a ActualContainer) bool {
		return !a.OneOff() && (len(services) == 0 || slices.Contains(services, a.Service()))
	}
}

// Start returns the steps that start the existing containers of the services
// and of what these need, each after its dependencies are as far as they must
// be.
func Start(desired Desired, actual Actual, options Options) []Step {
	p := newPlanner(desired, actual, options)
	g := dependencies(desired, actual)
	all := options.Services
	if len(all) > 0 && !options.NoDeps {
		for s := range g.below(all) {
			all = append(slices.Clone(all), s)
		}
	}
	for _, a := range g.sorted(actual, among(all)) {
		if a.Alive() {
			continue
		}
		do := StartContainer{Name: a.Name, Service: a.Service()}
		p.started[a.Name] = p.add(do, "asked to start", p.before(p.wantedAs(a), p.ready(g, a))...)
	}
	return p.steps
}

// Restart returns the steps that stop the containers of the services, and of
// those that follow their restarts, and start them again.
func Restart(desired Desired, actual Actual, options Options) []Step {
	p := newPlanner(desired, actual, options)
	g := dependencies(desired, actual)
	take := among(nil)
	if len(options.Services) > 0 {
		which := map[string]bool{}
		for _, s := range options.Services {
			which[s] = true
		}
		if !options.NoDeps {
			which = g.above(options.Services, true)
		}
		take = func(a ActualContainer) bool { return !a.OneOff() && which[a.Service()] }
	}
	picked := g.sorted(actual, take)
	for _, a := range slices.Backward(picked) {
		if a.Alive() {
			p.stop(a, "asked to restart", true, p.upstops(g, a)...)
		}
	}
	for _, a := range picked {
		do := StartContainer{Name: a.Name, Service: a.Service(), Restart: true}
		after := append(p.ready(g, a), p.stopped[a.ID])
		p.started[a.Name] = p.add(do, "asked to restart", p.before(p.wantedAs(a), after)...)
	}
	return p.steps
}

// wantedAs is what the files ask of a container; without pre_start hooks when
// there is no file at hand.
func (p *planner) wantedAs(a ActualContainer) Container {
	for _, c := range p.wanted {
		if c.Name == a.Name {
			return c
		}
	}
	return Container{Name: a.Name, Service: a.Service()}
}

// ready returns the steps after which a container's dependencies are as far as
// it needs them.
func (p *planner) ready(g graph, a ActualContainer) []int {
	var after []int
	for _, d := range g[a.Service()] {
		var starts []int
		var names []string
		settled := true
		for i := range p.actual.Containers {
			x := &p.actual.Containers[i]
			if x.Service() != d.Service || x.OneOff() {
				continue
			}
			names = append(names, x.Name)
			starts = append(starts, p.started[x.Name])
			settled = settled && p.started[x.Name] == 0 && (met(x, d.Condition) || !x.Alive())
		}
		if d.Condition == Started || len(names) == 0 || settled || p.options.NoDeps {
			after = append(after, starts...)
			continue
		}
		key := await{d.Service, d.Condition, d.Optional}
		if p.awaited[key] == 0 {
			do := Await{Service: d.Service, Names: names, Condition: d.Condition, Optional: d.Optional, For: a.Service()}
			p.awaited[key] = p.add(do, a.Service()+" depends on it", starts...)
		}
		after = append(after, p.awaited[key])
	}
	return after
}

// Remove returns the steps that take away the stopped containers of the
// services and, with stop, the running ones as well.
func Remove(desired Desired, actual Actual, options Options, stop bool) []Step {
	p := newPlanner(desired, actual, options)
	g := dependencies(desired, actual)
	services := options.Services
	take := func(a ActualContainer) bool {
		return (stop || !a.Alive()) && (len(services) == 0 || slices.Contains(services, a.Service()))
	}
	for _, a := range slices.Backward(g.sorted(actual, take)) {
		p.take(a, "asked to remove", options.Volumes, p.upstops(g, a)...)
	}
	return p.steps
}

// Kill returns the steps that send a signal to the living containers of the
// services; orphans get it only when they are to be removed.
func Kill(desired Desired, actual Actual, options Options, signal string) []Step {
	p := newPlanner(desired, actual, options)
	for _, a := range actual.Containers {
		if among(options.Services)(a) && a.Alive() {
			p.add(KillContainer{ID: a.ID, Name: a.Name, Service: a.Service(), Signal: signal}, "asked to kill")
		}
	}
	if options.RemoveOrphans {
		p.sweepOrphans()
	}
	return p.steps
}

func (p *planner) sweepOrphans() {
	for _, a := range p.actual.Containers {
		if Orphan(p.desired, a) {
			do := RemoveContainer{ID: a.ID, Name: a.Name, Service: a.Service()}
			p.gone[a.ID] = p.add(do, "its service is not in the compose files")
		}
	}
}

// Pause returns the steps that freeze the running containers of the services.
func Pause(actual Actual, services []string) []Step {
	p := newPlanner(Desired{}, actual, Options{})
	for _, a := range actual.Containers {
		if among(services)(a) && a.State.Status == engine.Running {
			p.add(PauseContainer{ID: a.ID, Name: a.Name, Service: a.Service()}, "asked to pause")
		}
	}
	return p.steps
}

// Unpause returns the steps that let the frozen containers of the services go
// on.
func Unpause(actual Actual, services []string) []Step {
	p := newPlanner(Desired{}, actual, Options{})
	for _, a := range actual.Containers {
		if among(services)(a) && a.State.Status == engine.Paused {
			p.add(UnpauseContainer{ID: a.ID, Name: a.Name, Service: a.Service()}, "asked to go on")
		}
	}
	return p.steps
}
