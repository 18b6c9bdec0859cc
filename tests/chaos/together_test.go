package chaos

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

// TestCommandsTogether runs commands on one project at the same time, again and
// again: each of them ends, and the last one has its way.
func TestCommandsTogether(t *testing.T) {
	rounds := kernel.Often(1, 40)
	w := newWorld(t, "chaostogether", "")
	for range rounds {
		for _, both := range [][]string{{"up -d", "up -d"}, {"up -d", "down"}, {"up -d", "up -d --scale worker=3", "down -t 0"}, {"stop", "start", "restart"}} {
			w.together(t, both)
		}
		w.must(t, "up", "-d", "--scale", "worker=1")
		must(t, w.becomesUp())
	}
	w.must(t, "down", "-v")
}

// together runs commands side by side. Those that lose may fail, with a reason;
// none may hang, and there is one keeper at most.
func (w *World) together(t *testing.T, commands []string) {
	t.Helper()
	outs := make([]error, len(commands))
	begin := make([]func() (string, error), len(commands))
	for i, c := range commands {
		begin[i] = w.later(strings.Fields(c)...)
	}
	var wg sync.WaitGroup
	for i := range commands {
		wg.Go(func() { _, outs[i] = begin[i]() })
	}
	wg.Wait()
	for i, err := range outs {
		if err != nil && strings.Contains(err.Error(), ErrHangs.Error()) {
			t.Fatalf("%v: %v", commands[i], err)
		}
	}
	w.settled()
	// One that has lost the race for the lock leaves by itself.
	kernel.Eventually(t, patience, fmt.Sprint(commands, ": one keeper at most"), func() bool { return w.count("keeper") <= 1 })
}

// TestManyProjectsAtOnce has projects ask for networks at the same time: no two
// get the same subnet. 8 projects, with DAVIT_LONG 50.
func TestManyProjectsAtOnce(t *testing.T) {
	n := kernel.Often(8, 50)
	w := newWorld(t, "chaosmany", "services: {a: {image: busybox, command: sleep 1000d, stop_signal: SIGKILL}}\n")
	worlds := []*World{w}
	for i := 1; i < n; i++ {
		other := *w
		other.Project = fmt.Sprintf("%s-%d", w.Project, i)
		worlds = append(worlds, &other)
	}
	all := func(args ...string) {
		t.Helper()
		errs := make([]error, n)
		runs := make([]func() (string, error), n)
		for i, o := range worlds {
			runs[i] = o.later(args...)
		}
		var wg sync.WaitGroup
		for i := range worlds {
			wg.Go(func() { _, errs[i] = runs[i]() })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
	}
	all("up", "-d")
	seen := map[string]string{}
	for _, o := range worlds {
		states, err := o.States()
		must(t, err)
		for name, s := range states {
			for _, ep := range s.State.Endpoints {
				subnet := ep.IPv4[:strings.LastIndex(ep.IPv4, ".")]
				if other := seen[subnet]; other != "" {
					t.Errorf("%s and %s are both on %s", name, other, subnet)
				}
				seen[subnet] = name
			}
		}
	}
	if len(seen) != n {
		t.Errorf("%d subnets for %d projects", len(seen), n)
	}
	all("down")
}
