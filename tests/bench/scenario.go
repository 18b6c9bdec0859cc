package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// idle is how long the machine rests before what is measured: back-to-back
// loops hide what is slow when it is cold, the cgroups above all.
const idle = 300 * time.Millisecond

// toContainer is the row of requests that no published port is between.
const toContainer = "%d HTTP requests to the container's address"

// A scenario is one thing that a user does. Its steps are run in order, each
// repeat; those with a row's name are measured.
type scenario struct {
	name     string
	services int
	file     string                 // the compose file; empty: that many idle services
	images   []string               // of tests/images, beside busybox
	prepare  func(dir string) error // adds to the project's directory
	before   []string               // run once, before the first repeat
	steps    []step
	after    []string // run once, after the last

	example string // whose directory the project is a copy of, instead of file
	env     string // its .env
	alone   bool   // the peer has nothing to be measured beside
}

// A step is a command of the runner, or something done beside it.
type step struct {
	row  string
	of   string // the row whose rate this one's is a share of
	unit string // of what call returns; empty: it is a time
	args []string
	call func(ctx context.Context, r *runner, dir string) (time.Duration, error)
	// often is how many times it is measured in each repeat; 0 is once.
	often int
}

func scenarios(sizes []int) []scenario {
	down := []string{"down", "-t", "0"}
	up := []string{"up", "-d"}
	var all []scenario
	for _, n := range sizes {
		all = append(all, scenario{name: fmt.Sprintf("up and down %d", n), services: n, steps: []step{
			{row: fmt.Sprintf("up -d, %d services", n), args: up},
			{row: fmt.Sprintf("down, %d services", n), args: down},
		}})
	}
	most := sizes[len(sizes)-1]
	all = append(all, builds()...)
	all = append(all,
		scenario{name: "all up", services: most, before: up, after: down, steps: []step{
			{row: fmt.Sprintf("up again, nothing to do, %d services", most), args: up},
			{row: fmt.Sprintf("ps, %d up", most), args: []string{"ps"}},
			{row: fmt.Sprintf("memory, %d idle services", most), unit: "MiB", call: memory},
		}},
		scenario{name: "one command", services: 1, before: up, after: down, steps: []step{
			{row: "run --rm true", args: []string{"run", "--rm", "-T", "s1", "true"}},
			{row: "exec true", args: []string{"exec", "-T", "s1", "true"}},
			{row: "config -q", args: []string{"config", "-q"}},
			{row: "version", args: []string{"version"}},
		}},
		// Alone: docker compose walks every path through the layers, 20 to the power of 100.
		scenario{name: "a large project", services: 2000, file: layered(100, 20), alone: true, steps: []step{
			{row: "config -q, 2,000 services in layers", args: []string{"config", "-q"}},
		}},
		scenario{name: "killed", services: 1, file: restartFile, prepare: makeBook, before: up, after: down, steps: []step{
			{args: []string{"up", "-d", "--force-recreate", "-t", "0"}}, // or it would be held back for longer each time
			{row: "kill -9 until it runs again, 100 ms of it held back", call: killed},
		}},
		scenario{name: "logs", services: 1, file: writerFile, prepare: writeLines, steps: []step{
			{row: fmt.Sprintf("up -d until a service has written %d lines of 200 bytes", writerLines), call: takeLines},
			{row: fmt.Sprintf("logs, %d lines", writerLines), args: []string{"logs", "--no-color"}},
			{row: "logs --tail 100", args: []string{"logs", "--no-color", "--tail", "100"}},
			{args: down},
		}},
		imageRows(),
		scenario{name: "published port", services: 1, file: serverFile, before: up, after: down, steps: []step{
			{row: fmt.Sprintf("%d HTTP requests through 127.0.0.1", requests), call: throughPort, of: fmt.Sprintf(toContainer, requests)},
			{row: fmt.Sprintf(toContainer, requests), call: beside},
		}},
		scenario{name: "names", services: 1, file: askerFile, before: up, after: down, steps: []step{
			{row: asked(1), call: ask1, of: echoed(1)},
			{row: echoed(1), call: beside},
			{row: asked(16), call: ask16, of: echoed(16)},
			{row: echoed(16), call: beside},
		}})
	return append(all, edits()...)
}

// layered is a project of so many layers of so many services, each of which
// depends on the whole next layer.
func layered(layers, wide int) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for l := range layers {
		for i := range wide {
			fmt.Fprintf(&b, "  l%d-%d:\n    image: busybox\n    command: sleep 600\n", l, i)
			if l+1 == layers {
				continue
			}
			b.WriteString("    depends_on:\n")
			for j := range wide {
				fmt.Fprintf(&b, "      - l%d-%d\n", l+1, j)
			}
		}
	}
	return b.String()
}

// bench is one run of the program.
type bench struct {
	options
	dir     string
	runners []*runner
	rows    []*row
	stress  time.Duration // CPU pressure at the start
}

// A row is what was measured of one step: per runner, one time per repeat.
type row struct {
	name  string
	of    string
	unit  string // of what a millisecond stands for; empty: itself
	times [][]time.Duration
}

// measure is the unit in which the row is told.
func (r *row) measure() string {
	if r.unit == "" {
		return "ms"
	}
	return r.unit
}

// measure runs a scenario with all runners by turns, so that whatever else the
// machine does meets them alike, after one round that warms it up.
func (b *bench) measure(ctx context.Context, s scenario) error {
	runners := b.runners
	if s.alone {
		runners = runners[:1]
	}
	dirs := make([]string, len(runners))
	for i, r := range runners {
		var err error
		if err = r.load(ctx, s.images...); err != nil {
			return err
		}
		if dirs[i], err = project(b.dir, r, s); err != nil {
			return err
		}
		if _, err := r.do(ctx, dirs[i], s.before); err != nil {
			return err
		}
	}
	if err := b.rounds(ctx, s, runners, dirs); err != nil {
		return err
	}
	for i, r := range runners {
		if _, err := r.do(ctx, dirs[i], s.after); err != nil {
			return err
		}
	}
	return nil
}

// rounds measures the steps of a scenario that is set up.
func (b *bench) rounds(ctx context.Context, s scenario, runners []*runner, dirs []string) error {
	first := len(b.rows)
	for _, st := range s.steps {
		b.rows = append(b.rows, &row{name: st.row, of: st.of, unit: st.unit, times: make([][]time.Duration, len(runners))})
	}
	defer func() { b.rows = slices.DeleteFunc(b.rows, func(r *row) bool { return r.name == "" }) }()
	for round := range b.repeats + 1 {
		for turn := range runners {
			i := (turn + round) % len(runners)
			for k, st := range s.steps {
				for range max(st.often, 1) {
					time.Sleep(idle)
					took, err := runners[i].step(ctx, dirs[i], st)
					if err != nil {
						return err
					}
					if round > 0 {
						t := &b.rows[first+k].times[i]
						*t = append(*t, took)
					}
				}
			}
		}
	}
	return nil
}

func (r *runner) step(ctx context.Context, dir string, s step) (time.Duration, error) {
	if s.call != nil {
		return s.call(ctx, r, dir)
	}
	return r.do(ctx, dir, s.args)
}

func (r *runner) do(ctx context.Context, dir string, args []string) (time.Duration, error) {
	if args == nil {
		return 0, nil
	}
	return r.run(ctx, dir, args...)
}
