package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// Options say how a plan is run.
type Options struct {
	Project  string
	Parallel int               // steps at once, waits left out; below 1: no bound
	IDs      map[string]string // ids of the containers that there are, by name
	// Report is told of everything that begins or ends, from one goroutine at
	// a time. Nil: nobody listens.
	Report func(Event)
}

// Steps runs a plan. Every step begins as soon as those it waits for have
// succeeded. After a failure, or once ctx has ended, no step begins; those
// under way are seen through, but waits, pulls and builds are broken off. The
// error names every step that failed.
func Steps(ctx context.Context, e Engine, steps []reconcile.Step, o Options) error {
	r := newRun(ctx, e, steps, o)
	defer r.cancel()
	for r.begin(ctx); r.running > 0; r.begin(ctx) {
		r.finish(<-r.results)
	}
	if len(r.failures) > 0 {
		return errors.Join(r.failures...)
	}
	return ctx.Err()
}

// A run is one plan being applied. Its goroutine owns it; steps only send.
type run struct {
	engine   Engine
	options  Options
	steps    []reconcile.Step
	waiting  map[int]int   // step -> how many it still waits for
	next     map[int][]int // step -> those that wait for it
	ready    []int
	running  int
	busy     int // of running, those that count against Parallel
	results  chan result
	failures []error
	names    names
	replaced map[string]bool // ids of containers whose place another takes
	told     map[string]bool // of those, the ones whose Recreate was reported
	roomy    map[string]bool // of those, the ones whose Recreated was reported
	pulled   map[string]bool // images that a pull of this plan brought

	// brief is the context of steps that may be broken off at any time.
	brief  context.Context
	cancel context.CancelFunc
}

type result struct {
	step int
	err  error
}

func newRun(ctx context.Context, e Engine, steps []reconcile.Step, o Options) *run {
	r := &run{
		engine: e, options: o, steps: steps, waiting: map[int]int{}, next: map[int][]int{},
		results: make(chan result), names: newNames(o.IDs),
		replaced: map[string]bool{}, told: map[string]bool{}, roomy: map[string]bool{}, pulled: map[string]bool{},
	}
	r.brief, r.cancel = context.WithCancel(ctx)
	for i, s := range steps {
		r.waiting[s.ID] = len(s.After)
		for _, id := range s.After {
			r.next[id] = append(r.next[id], i)
		}
		if len(s.After) == 0 {
			r.ready = append(r.ready, i)
		}
		if do, ok := s.Do.(reconcile.CreateContainer); ok && do.Replaces != "" {
			r.replaced[do.Replaces] = true
		}
	}
	return r
}

// begin starts every step that is ready, as far as the bound allows.
func (r *run) begin(ctx context.Context) {
	if len(r.failures) > 0 || ctx.Err() != nil {
		r.cancel()
		return
	}
	var held []int
	for _, i := range r.ready {
		if counts(r.steps[i].Do) && r.options.Parallel > 0 && r.busy >= r.options.Parallel {
			held = append(held, i)
			continue
		}
		r.launch(ctx, i)
	}
	r.ready = held
}

// counts says whether an action uses the machine, or only waits.
func counts(do reconcile.Action) bool {
	_, waits := do.(reconcile.Await)
	return !waits
}

func (r *run) launch(ctx context.Context, i int) {
	s := r.steps[i]
	r.running++
	if counts(s.Do) {
		r.busy++
	}
	r.report(r.began(s.Do)...)
	if b, ok := s.Do.(reconcile.BuildImage); ok && b.Fallback && r.pulled[b.Ref] {
		go func() { r.results <- result{step: i} }()
		return
	}
	// A step under way is seen through although the caller has given up:
	// what is half-made is worse than what is made.
	if !breakable(s.Do) {
		ctx = context.WithoutCancel(ctx)
	} else {
		ctx = r.brief
	}
	go func() { r.results <- result{i, r.do(ctx, s.Do)} }()
}

func breakable(do reconcile.Action) bool {
	switch do.(type) {
	case reconcile.Await, reconcile.PullImage, reconcile.BuildImage:
		return true
	}
	return false
}

func (r *run) finish(done result) {
	s := r.steps[done.step]
	r.running--
	if counts(s.Do) {
		r.busy--
	}
	if done.err != nil && !r.forgiven(s.Do, done.err) {
		if r.brief.Err() != nil && errors.Is(done.err, context.Canceled) {
			return // broken off because of another failure
		}
		r.report(r.failed(s.Do, done.err)...)
		r.failures = append(r.failures, explain(s.Do, done.err))
		return
	}
	if p, ok := s.Do.(reconcile.PullImage); ok && done.err == nil {
		r.pulled[p.Ref] = true
	}
	r.report(r.ended(s.Do, done.err)...)
	for _, i := range r.next[s.ID] {
		if r.waiting[r.steps[i].ID]--; r.waiting[r.steps[i].ID] == 0 {
			r.ready = append(r.ready, i)
		}
	}
}

// forgiven says whether a plan goes on although a step did not do its work.
func (r *run) forgiven(do reconcile.Action, err error) bool {
	switch do := do.(type) {
	case reconcile.Await:
		return do.Optional && !errors.Is(err, context.Canceled)
	case reconcile.PullImage:
		return do.Optional && !errors.Is(err, context.Canceled)
	case reconcile.RemoveNetwork, reconcile.RemoveVolume:
		return errors.Is(err, ErrInUse)
	}
	return false
}

// explain names the step that failed, unless the error says it all.
func explain(do reconcile.Action, err error) error {
	if a, ok := do.(reconcile.Await); ok {
		if a.Hook {
			return fmt.Errorf("pre_start of service %q: %w; container %s is kept", a.For, err, strings.Join(a.Names, ", "))
		}
		if a.Condition == reconcile.Completed {
			return err
		}
		return fmt.Errorf("dependency failed to start: %w", err)
	}
	var mistake *project.Error
	if errors.As(err, &mistake) {
		return err // it says where to look already
	}
	phrase := reconcile.Phrase(do)
	if strings.HasPrefix(err.Error(), phrase+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", phrase, err)
}
