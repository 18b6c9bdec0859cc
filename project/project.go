package project

import (
	"fmt"
	"maps"
	"slices"
)

// A Project is what a set of compose files says once it is merged,
// interpolated and checked. Paths in it are absolute, short forms are written
// out, and every reference has been followed to see that it leads somewhere.
type Project struct {
	Name         string
	WorkingDir   string            // relative paths of the files start here
	ComposeFiles []string          // in the order in which they were merged; "-" is standard input
	EnvFiles     []string          // the .env files that were read
	Environment  map[string]string // what ${…} was replaced from
	Profiles     []string          // the active ones
	// Compatibility joins container names with _ (--compatibility).
	Compatibility bool

	Services         map[string]*Service // active ones
	DisabledServices map[string]*Service // left out by their profiles, or not selected
	Jobs             map[string]*Service
	DisabledJobs     map[string]*Service
	Networks         map[string]*Network
	Volumes          map[string]*Volume
	Secrets          map[string]*File
	Configs          map[string]*File
	Models           map[string]*Model
	Extensions       map[string]any // top-level x-…

	// Locate finds where a key path was written; the loader sets it.
	Locate func(key string) Position
	// Quote is the line of a file that a position is in; the loader sets it.
	Quote func(Position) string
}

// Origin is where the value of a key path was written, such as
// "services.web.ports.0". When the value itself was written nowhere (a
// default), it is the nearest enclosing key; zero when nothing is known.
func (p *Project) Origin(key string) Position {
	if p.Locate == nil {
		return Position{}
	}
	return p.Locate(key)
}

// Wrong is a mistake at a key path, with its place and line filled in.
func (p *Project) Wrong(key, fix, format string, args ...any) *Error {
	at := p.Origin(key)
	e := &Error{File: at.File, Line: at.Line, Column: at.Column, Key: key, What: fmt.Sprintf(format, args...), Fix: fix}
	if p.Quote != nil {
		e.Source = p.Quote(at)
	}
	return e
}

// ServiceNames are the active services, sorted.
func (p *Project) ServiceNames() []string { return slices.Sorted(maps.Keys(p.Services)) }

// AllServices are the active and the disabled services together.
func (p *Project) AllServices() map[string]*Service {
	all := maps.Clone(p.DisabledServices)
	if all == nil {
		all = map[string]*Service{}
	}
	maps.Copy(all, p.Services)
	return all
}

// Service is the active service of that name, or an error in the words that
// scripts match.
func (p *Project) Service(name string) (*Service, error) {
	if s, ok := p.Services[name]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("no such service: %s", name)
}

// ImageName is what a service's image is called: the name it gives, or
// PROJECT-SERVICE for one that is only built.
func (p *Project) ImageName(s *Service) string {
	if s.Image != "" {
		return s.Image
	}
	return p.Name + "-" + s.Name
}
