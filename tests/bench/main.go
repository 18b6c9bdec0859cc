package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/davit-run/davit/tests/kernel"
)

// options are what the command line says.
type options struct {
	cli, peer string
	repeats   int
	services  []int
	only      string
	json      string
	baseline  string
}

func main() {
	var o options
	var services string
	flag.StringVar(&o.cli, "cli", "bin/davit", "the runner to measure, with its leading words")
	flag.StringVar(&o.peer, "peer", "", "another runner, such as \"docker compose\"; empty: none")
	flag.IntVar(&o.repeats, "repeats", 7, "measured runs of each scenario")
	flag.StringVar(&services, "services", "1,10,50", "sizes of the project that goes up and down")
	flag.StringVar(&o.only, "only", "", "scenarios whose name contains this")
	flag.StringVar(&o.json, "json", "", "write the results to this file too")
	flag.StringVar(&o.baseline, "baseline", "", "results of an earlier run: ratios more than 20 % worse are reported")
	flag.Parse()
	for _, n := range strings.Split(services, ",") {
		count, err := strconv.Atoi(strings.TrimSpace(n))
		if err != nil || count < 1 {
			fmt.Fprintf(os.Stderr, "bench: -services %q: not numbers of services\n", services)
			os.Exit(2)
		}
		o.services = append(o.services, count)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("/var/tmp", "dvbench")
	if err != nil {
		return err
	}
	// Whatever a run that failed left of davit's goes with its root.
	defer func() {
		_ = kernel.Scrub(filepath.Join(dir, "root"))
		_ = os.RemoveAll(dir)
	}()
	runners, err := newRunners(ctx, o, dir)
	if err != nil {
		return err
	}
	b := bench{options: o, dir: dir, runners: runners, stress: pressure()}
	for _, s := range scenarios(o.services) {
		if !strings.Contains(s.name, o.only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s …\n", s.name)
		if err := b.measure(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	floors, err := measureFloors(dir, 3*o.repeats)
	if err != nil {
		return err
	}
	r := b.report(floors)
	r.print(os.Stdout)
	if o.baseline != "" {
		if err := r.compare(os.Stdout, o.baseline); err != nil {
			return err
		}
	}
	if o.json != "" {
		return writeJSON(o.json, r)
	}
	return nil
}

func writeJSON(path string, v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(out, '\n'), 0o644)
}
