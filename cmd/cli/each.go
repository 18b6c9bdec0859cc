package cli

import (
	"errors"
	"fmt"

	"github.com/davit-run/davit/cmd/render"
)

// errSkip, from what forEach calls, means that there was nothing to do for an
// argument, and that this is not wrong.
var errSkip = errors.New("nothing to do")

// forEach does something with each of the things named, whatever becomes of
// the others; what is wrong is told together at the end.
func (g *globals) forEach(names []string, do func(s *session, name string) error) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	var wrong []error
	for _, name := range names {
		if err := do(s, name); err != nil && !errors.Is(err, errSkip) {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

// removeEach removes each of the things named, and prints the names of those
// that it did remove.
func (g *globals) removeEach(names []string, remove func(s *session, name string) error) error {
	return g.forEach(names, func(s *session, name string) error {
		if err := remove(s, name); err != nil {
			return err
		}
		_, err := fmt.Fprintln(g.out, name)
		return err
	})
}

// inspectEach prints what look finds of each of the things named as one JSON
// array, or each through a template.
func (g *globals) inspectEach(format string, names []string, look func(s *session, name string) (any, error)) error {
	var all []any
	wrong := g.forEach(names, func(s *session, name string) error {
		v, err := look(s, name)
		if err == nil {
			all = append(all, v)
		}
		return err
	})
	return errors.Join(wrong, render.Documents(g.out, format, all))
}
