package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

// Up is the condition of up --wait: running and, where there is a probe,
// healthy. A one-shot that finished well meets it too.
const Up = "running_or_healthy"

// patience is how long, at most, a change stays unseen when no event tells of
// it: the keeper may be taken over by another just then.
const patience = 250 * time.Millisecond

// A Target is a container that is waited for.
type Target struct{ Name, ID, Service string }

// Wait returns when all containers meet a condition, or with the reason why
// one never will. met, when not nil, is told of each as it does.
func Wait(ctx context.Context, w Watcher, project string, all []Target, condition string, met func(Target)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = w.Watch(ctx, project, poke, func(engine.Event) error { poke(); return ctx.Err() })
	}()
	defer func() { cancel(); <-watched }()
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for {
		left, err := unmet(ctx, w, project, all, condition, met)
		if err != nil || len(left) == 0 {
			return err
		}
		all = left
		select {
		case <-wake:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unmet returns the containers that do not meet the condition yet.
func unmet(ctx context.Context, w Watcher, project string, all []Target, condition string, met func(Target)) ([]Target, error) {
	var left []Target
	for _, t := range all {
		s, err := w.State(ctx, project, t.ID)
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", t.Name, err)
		}
		ok, err := meets(t, s, condition)
		if err != nil {
			return nil, err
		}
		if !ok {
			left = append(left, t)
		} else if met != nil {
			met(t)
		}
	}
	return left, nil
}

// meets says whether a container is as far as a condition asks, or why it never
// will be.
func meets(t Target, s engine.State, condition string) (bool, error) {
	ended := s.Status == engine.Exited || s.Status == engine.Dead || s.Status == engine.Removing
	switch condition {
	case reconcile.Completed:
		if ended && s.ExitCode != 0 {
			return false, fmt.Errorf("service %q didn't complete successfully: exit %d", t.Service, s.ExitCode)
		}
		return ended, nil
	case Up:
		if ended && s.ExitCode == 0 && s.Error == "" {
			return true, nil
		}
	}
	if ended {
		return false, fmt.Errorf("container %s exited (%d)", t.Name, s.ExitCode)
	}
	if s.Status != engine.Running {
		return false, nil
	}
	if condition == reconcile.Started || s.Health == nil && condition == Up {
		return true, nil
	}
	if s.Health == nil {
		return false, fmt.Errorf("container %s has no healthcheck configured", t.Name)
	}
	if s.Health.Status == "unhealthy" {
		return false, fmt.Errorf("container %s is unhealthy", t.Name)
	}
	return s.Health.Status == "healthy", nil
}
