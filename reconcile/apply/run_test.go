package apply

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

// words runs a plan and returns what was reported, one line an event.
func report(t *testing.T, f *fake, steps []reconcile.Step, ids map[string]string) (string, error) {
	t.Helper()
	var b strings.Builder
	err := Steps(t.Context(), f, steps, Options{Project: "p", IDs: ids, Report: func(e Event) {
		fmt.Fprintf(&b, "%s %s %s\n", e.Kind, e.Name, e.Word)
	}})
	return b.String(), err
}

func step(id int, do reconcile.Action, after ...int) reconcile.Step {
	return reconcile.Step{ID: id, Do: do, After: after}
}

func TestReplacingTellsRecreate(t *testing.T) {
	f := newFake()
	got, err := report(t, f, []reconcile.Step{
		step(1, reconcile.CreateContainer{Name: "web-1", Replaces: "old"}),
		step(2, reconcile.StopContainer{ID: "old", Name: "web-1", Removal: true}, 1),
		step(3, reconcile.RemoveContainer{ID: "old", Name: "web-1"}, 2),
		step(4, reconcile.StartContainer{Name: "web-1"}, 1, 2),
	}, map[string]string{"web-1": "old"})
	want := "Container web-1 Recreate\nContainer web-1 Recreated\nContainer web-1 Starting\nContainer web-1 Started\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	slices.Sort(f.calls[2:]) // the old one's removal and the new one's start go side by side
	if want := []string{"create web-1", "stop old", "remove old", "start id-web-1"}; !slices.Equal(f.calls, want) {
		t.Errorf("calls %q", f.calls)
	}
}

func TestFailureNamesTheStepAndEndsThePlan(t *testing.T) {
	f := newFake()
	f.fail["start x"] = errBoom
	got, err := report(t, f, []reconcile.Step{
		step(1, reconcile.StartContainer{Name: "db-1"}),
		step(2, reconcile.StartContainer{Name: "web-1"}, 1),
	}, map[string]string{"db-1": "x", "web-1": "y"})
	if !errors.Is(err, errBoom) || err.Error() != "start container db-1: boom" {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(got, "Container db-1 Error") || slices.Contains(f.calls, "start y") {
		t.Errorf("report %s calls %q", got, f.calls)
	}
}

func TestNetworkInUseStays(t *testing.T) {
	f := newFake()
	f.fail["remove network n"] = fmt.Errorf("n: %w", ErrInUse)
	got, err := report(t, f, []reconcile.Step{
		step(1, reconcile.RemoveNetwork{Name: "n"}),
		step(2, reconcile.RemoveVolume{Name: "v"}, 1),
	}, nil)
	want := "Network n Removing\nNetwork n Resource is still in use\nVolume v Removing\nVolume v Removed\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestBuildStandsInForAFailedPullOnly(t *testing.T) {
	steps := []reconcile.Step{
		step(1, reconcile.PullImage{Ref: "a", Optional: true}),
		step(2, reconcile.BuildImage{Ref: "a", Fallback: true}, 1),
	}
	f := newFake()
	if _, err := report(t, f, steps, nil); err != nil || slices.Contains(f.calls, "build a") {
		t.Errorf("pulled: %v %q", err, f.calls)
	}
	f = newFake()
	f.fail["pull a"] = errBoom
	if _, err := report(t, f, steps, nil); err != nil || !slices.Contains(f.calls, "build a") {
		t.Errorf("not pulled: %v %q", err, f.calls)
	}
}

func TestParallelIsABound(t *testing.T) {
	f := newFake()
	f.slow = 2 * time.Millisecond
	var steps []reconcile.Step
	for i := range 20 {
		steps = append(steps, step(i+1, reconcile.RemoveVolume{Name: fmt.Sprint(i)}))
	}
	if err := Steps(t.Context(), f, steps, Options{Parallel: 3}); err != nil || len(f.calls) != 20 || f.most > 3 {
		t.Errorf("%v: %d calls, %d at once", err, len(f.calls), f.most)
	}
}

// A caller that gives up ends waits at once; what is half-made is seen through,
// and nothing new begins.
func TestCallerGivesUp(t *testing.T) {
	f := newFake()
	f.states["id-db"] = engine.State{Status: engine.Running, Health: &engine.Health{Status: "starting"}}
	ctx, cancel := context.WithCancel(t.Context())
	err := Steps(ctx, f, []reconcile.Step{
		step(1, reconcile.Await{Service: "db", Names: []string{"db"}, Condition: reconcile.Healthy}),
		step(2, reconcile.RemoveVolume{Name: "v"}, 1),
	}, Options{IDs: map[string]string{"db": "id-db"}, Report: func(Event) { cancel() }})
	if !errors.Is(err, context.Canceled) || len(f.calls) != 0 {
		t.Errorf("%v, calls %q", err, f.calls)
	}
}

func TestAwaiting(t *testing.T) {
	healthy := engine.State{Status: engine.Running, Health: &engine.Health{Status: "healthy"}}
	starting := engine.State{Status: engine.Running, Health: &engine.Health{Status: "starting"}}
	sick := engine.State{Status: engine.Running, Health: &engine.Health{Status: "unhealthy"}}
	plain := engine.State{Status: engine.Running}
	gone := func(code int) engine.State { return engine.State{Status: engine.Exited, ExitCode: code} }
	again := engine.State{Status: engine.Restarting, ExitCode: 1}
	for name, c := range map[string]struct {
		condition string
		before    engine.State
		after     engine.State
		want      string // error; "" for none
	}{
		"becomes healthy":                  {reconcile.Healthy, starting, healthy, ""},
		"becomes unhealthy":                {reconcile.Healthy, starting, sick, "dependency failed to start: container db-1 is unhealthy"},
		"exits while it is waited for":     {reconcile.Healthy, starting, gone(3), "dependency failed to start: container db-1 exited (3)"},
		"has no probe":                     {reconcile.Healthy, plain, plain, "dependency failed to start: container db-1 has no healthcheck configured"},
		"restarts and then becomes well":   {reconcile.Healthy, again, healthy, ""},
		"finishes":                         {reconcile.Completed, plain, gone(0), ""},
		"finishes badly":                   {reconcile.Completed, plain, gone(2), `service "db" didn't complete successfully: exit 2`},
		"runs":                             {reconcile.Started, again, plain, ""},
		"is up with a probe":               {Up, starting, healthy, ""},
		"is up without a probe":            {Up, again, plain, ""},
		"is up when a one-shot is through": {Up, plain, gone(0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.states["i"] = c.before
			do := reconcile.Await{Service: "db", Names: []string{"db-1"}, Condition: c.condition}
			err := Steps(t.Context(), f, []reconcile.Step{step(1, do)}, Options{
				IDs: map[string]string{"db-1": "i"},
				Report: func(e Event) {
					if e.Word == "Waiting" {
						go f.set("i", c.after)
					}
				},
			})
			if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
				t.Errorf("got %s, want %q", got, c.want)
			}
		})
	}
}

// An optional dependency that fails is told of, and its dependant starts.
func TestOptionalDependencyFails(t *testing.T) {
	f := newFake()
	f.states["i"] = engine.State{Status: engine.Exited, ExitCode: 1}
	got, err := report(t, f, []reconcile.Step{
		step(1, reconcile.Await{Service: "db", Names: []string{"db-1"}, Condition: reconcile.Healthy, Optional: true}),
		step(2, reconcile.StartContainer{Name: "web-1"}, 1),
	}, map[string]string{"db-1": "i", "web-1": "w"})
	if err != nil || !strings.Contains(got, "Container db-1 Skipped") || !slices.Contains(f.calls, "start w") {
		t.Errorf("%v %s %q", err, got, f.calls)
	}
}

// In 300 random plans with random failures, no step runs before what it waits
// for has succeeded, and without a failure all run.
func TestRandomPlans(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		f := newFake()
		var steps []reconcile.Step
		for id := 1; id <= 1+rnd.IntN(30); id++ {
			var after []int
			for range rnd.IntN(4) {
				if id > 1 {
					after = append(after, 1+rnd.IntN(id-1))
				}
			}
			slices.Sort(after)
			call := fmt.Sprint(id)
			if rnd.IntN(20) == 0 {
				f.fail["remove volume "+call] = errBoom
			}
			steps = append(steps, step(id, reconcile.RemoveVolume{Name: call}, slices.Compact(after)...))
		}
		err := Steps(t.Context(), f, steps, Options{Parallel: rnd.IntN(4)})
		if (err != nil) != (len(f.fail) > 0 && failedOne(f)) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err == nil && len(f.calls) != len(steps) {
			t.Fatalf("seed %d: %d of %d steps ran", seed, len(f.calls), len(steps))
		}
		at := map[string]int{}
		for i, c := range f.calls {
			at[strings.TrimPrefix(c, "remove volume ")] = i + 1
		}
		for _, s := range steps {
			me := at[fmt.Sprint(s.ID)]
			for _, a := range s.After {
				before := at[fmt.Sprint(a)]
				if me != 0 && (before == 0 || before > me || f.fail[fmt.Sprint("remove volume ", a)] != nil) {
					t.Fatalf("seed %d: step %d ran without %d", seed, s.ID, a)
				}
			}
		}
	}
}

func failedOne(f *fake) bool {
	return slices.ContainsFunc(f.calls, func(c string) bool { return f.fail[c] != nil })
}
