package main

import (
	"context"
	"fmt"
	"time"
)

// idle is how long the machine rests before what is measured: back-to-back
// loops hide what is slow when it is cold, the cgroups above all.
const idle = 300 * time.Millisecond

// A scenario is one thing that a user does. Its steps are run in order, each
// repeat; those with a row's name are measured.
type scenario struct {
	name     string
	services int
	before   []string // run once, before the first repeat
	steps    []step
	after    []string // run once, after the last
}

type step struct {
	row  string
	args []string
}

func scenarios(sizes []int) []scenario {
	down := []string{"down", "-t", "0"}
	up := []string{"up", "-d"}
	var all []scenario
	for _, n := range sizes {
		all = append(all, scenario{name: fmt.Sprintf("up and down %d", n), services: n, steps: []step{
			{fmt.Sprintf("up -d, %d services", n), up},
			{fmt.Sprintf("down, %d services", n), down},
		}})
	}
	most := sizes[len(sizes)-1]
	return append(all,
		scenario{name: "all up", services: most, before: up, after: down, steps: []step{
			{fmt.Sprintf("up again, nothing to do, %d services", most), up},
			{fmt.Sprintf("ps, %d up", most), []string{"ps"}},
		}},
		scenario{name: "one command", services: 1, before: up, after: down, steps: []step{
			{"run --rm true", []string{"run", "--rm", "-T", "s1", "true"}},
			{"exec true", []string{"exec", "-T", "s1", "true"}},
			{"version", []string{"version"}},
		}})
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
	times [][]time.Duration
}

// measure runs a scenario with all runners by turns, so that whatever else the
// machine does meets them alike, after one round that warms it up.
func (b *bench) measure(ctx context.Context, s scenario) error {
	dirs := make([]string, len(b.runners))
	for i, r := range b.runners {
		var err error
		if dirs[i], err = project(b.dir, r, s.services); err != nil {
			return err
		}
		if _, err := r.do(ctx, dirs[i], s.before); err != nil {
			return err
		}
	}
	first := len(b.rows)
	for _, st := range s.steps {
		b.rows = append(b.rows, &row{name: st.row, times: make([][]time.Duration, len(b.runners))})
	}
	for round := range b.repeats + 1 {
		for turn := range b.runners {
			i := (turn + round) % len(b.runners)
			for k, st := range s.steps {
				time.Sleep(idle)
				took, err := b.runners[i].do(ctx, dirs[i], st.args)
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
	for i, r := range b.runners {
		if _, err := r.do(ctx, dirs[i], s.after); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) do(ctx context.Context, dir string, args []string) (time.Duration, error) {
	if args == nil {
		return 0, nil
	}
	return r.run(ctx, dir, args...)
}
