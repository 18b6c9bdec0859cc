package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/keeper/unit"
	"github.com/davit-run/davit/engine/store"
)

// unitPatience bounds how long systemd may take to make a project's unit.
const unitPatience = 10 * time.Second

// A place is where the groups of a project's containers are made: in a unit of
// systemd's where that runs, found out beside all that a keeper does before its
// first container starts.
type place struct {
	found   chan struct{} // closed when the rest is known
	group   string        // from the root of the hierarchies; empty: the project's own
	warning string        // what the user should know
	told    sync.Once
}

// findPlace begins to look. anchorPID is the anchor's, as this keeper's socket
// knows it.
func findPlace(layout store.Layout, project string, anchorPID int) *place {
	p := &place{found: make(chan struct{})}
	if !anchor.Booted() || os.Geteuid() != 0 {
		close(p.found)
		return p
	}
	go func() {
		defer close(p.found)
		var err error
		if p.group, err = enterUnit(layout, project, anchorPID); err == nil {
			return
		}
		p.group = ""
		p.warning = fmt.Sprintf("no unit %s for this project, which runs in cgroups of its own: %v", anchor.Unit(layout, project), err)
		say("%s", p.warning)
		anchor.Enter(project, both(anchorPID)...)
	}()
	return p
}

// both are the processes to move: this keeper, and its anchor while that is our
// parent, and so surely is the process of that number.
func both(anchorPID int) []int {
	if os.Getppid() == anchorPID {
		return []int{anchorPID, os.Getpid()}
	}
	return []int{os.Getpid()}
}

// enterUnit has systemd make the unit and takes anchor and keeper there, unless
// the anchor was there, or in groups of its own, when it started this keeper.
func enterUnit(layout store.Layout, project string, anchorPID int) (group string, err error) {
	group, inherited := anchor.Inherited(layout, project)
	if inherited {
		if group == "" {
			return "", nil
		}
		return group, anchor.EnterUnit(group, both(anchorPID)...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), unitPatience)
	defer cancel()
	for {
		group, err = unit.Ensure(ctx, unit.Scope{
			Name: anchor.Unit(layout, project), Description: "davit project " + project, PIDs: both(anchorPID),
		})
		if err != nil {
			return "", err
		}
		// It may have been on its way out, with nobody left in it.
		if err = anchor.EnterUnit(group, both(anchorPID)...); err == nil || ctx.Err() != nil {
			return group, err
		}
	}
}

// wait returns the place once it is known.
func (p *place) wait(ctx context.Context) (group string, err error) {
	select {
	case <-p.found:
		return p.group, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// news is what the user should know of the place, which was waited for: told with
// the first container that has started, and never again.
func (p *place) news() (warnings []string) {
	p.told.Do(func() {
		if p.warning != "" {
			warnings = []string{p.warning}
		}
	})
	return warnings
}
