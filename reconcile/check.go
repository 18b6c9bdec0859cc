package reconcile

import "fmt"

// A MissingError is something outside the project that its files count on and
// the host does not have.
type MissingError struct {
	Kind   string // network or volume
	Name   string
	Origin string // file:line
}

// Error says what is missing in the words that scripts match.
func (e *MissingError) Error() string {
	s := fmt.Sprintf("%s %s declared as external, but could not be found", e.Kind, e.Name)
	if e.Origin != "" {
		s = e.Origin + ": " + s
	}
	return s
}

// Missing returns what the wanted containers need from outside the project and
// the host does not have, in the order of the files.
func Missing(desired Desired, actual Actual, options Options) []error {
	p := newPlanner(desired, actual, options)
	var out []error
	for _, n := range desired.Networks {
		if _, ok := actual.Networks[n.Name]; n.External && !ok && p.usesNetwork(n.Name) {
			out = append(out, &MissingError{"network", n.Name, n.Origin})
		}
	}
	for _, v := range desired.Volumes {
		if _, ok := actual.Volumes[v.Name]; v.External && !ok && p.usesVolume(v.Name) {
			out = append(out, &MissingError{"volume", v.Name, v.Origin})
		}
	}
	return out
}

// Unchanged returns the wanted containers that run already and that the plan
// leaves alone.
func Unchanged(desired Desired, actual Actual, options Options) []ActualContainer {
	p := newPlanner(desired, actual, options)
	p.decide()
	var out []ActualContainer
	for _, c := range p.wanted {
		if a := p.have[c.Name]; a != nil && p.verdicts[c.Name].fate == keep && a.Alive() {
			out = append(out, *a)
		}
	}
	return out
}

// Orphans returns the containers of the project that belong to no service of
// its files and still count, finished one-offs left out.
func Orphans(desired Desired, actual Actual) []ActualContainer {
	var out []ActualContainer
	for _, a := range actual.Containers {
		if !a.OneOff() && Orphan(desired, a) {
			out = append(out, a)
		}
	}
	return out
}

// Wanted returns the containers of the services asked for and of what these
// need, dependencies first.
func Wanted(desired Desired, options Options) []Container {
	return newPlanner(desired, Actual{}, options).wanted
}

// Met says whether a container is as far as a condition asks.
func Met(a ActualContainer, condition string) bool { return met(&a, condition) }
