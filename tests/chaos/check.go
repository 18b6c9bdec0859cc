package chaos

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Check wants the next command to make good what a kill left: with up the
// project converges to what its file asks for, then, and without, down leaves
// nothing at all.
func (w *World) Check(p Point, up bool) error {
	if p.Verb.Name == "load" {
		if _, err := w.Davit(p.Verb.Args...); err != nil {
			return err
		}
	}
	var errs []error
	if up {
		if _, err := w.Davit("up", "-d"); err != nil {
			errs = append(errs, fmt.Errorf("next up: %w", err))
		} else if err := w.becomesUp(); err != nil {
			errs = append(errs, fmt.Errorf("after the next up: %w", err))
		}
	}
	downOut, err := w.Davit("down", "-v")
	if err != nil {
		errs = append(errs, fmt.Errorf("next down: %w", err))
	}
	left, err := w.Residue()
	if len(left) > 0 {
		err = fmt.Errorf("after down, which said\n%s\nthere is:\n  %s", downOut, strings.Join(left, "\n  "))
	}
	return errors.Join(append(errs, err)...)
}

// becomesUp waits for a container that the kill itself has ended to be
// restarted by its policy.
func (w *World) becomesUp() (err error) {
	deadline := time.Now().Add(patience)
	for {
		if err = w.IsUp(); err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Try kills at a point and checks; a world that was left unclean is made anew.
func (w *World) Try(p Point, up bool) (hit bool, err error) {
	hit, err = w.Kill(p)
	if err == nil {
		err = w.Check(p, up)
	} else {
		err = errors.Join(err, w.Check(p, up))
	}
	if err != nil {
		err = fmt.Errorf("%s: %w\nkeeper.log:\n%s", p, err, w.Log())
		err = errors.Join(err, w.renew())
	}
	return hit, err
}
