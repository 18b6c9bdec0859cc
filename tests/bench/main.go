package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

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
	profile   string
	growth    string
	disk      int
}

func main() {
	if end, is := inside(os.Args[1:]); is {
		if end != nil {
			fmt.Fprintln(os.Stderr, "bench:", end)
			os.Exit(1)
		}
		return
	}
	var o options
	var services string
	flag.StringVar(&o.cli, "cli", "bin/davit", "the runner to measure, with its leading words")
	flag.StringVar(&o.peer, "peer", "", "another runner, such as \"docker compose\"; empty: none")
	flag.IntVar(&o.repeats, "repeats", 7, "measured runs of each scenario")
	flag.StringVar(&services, "services", "1,10,50", "sizes of the project that goes up and down")
	flag.StringVar(&o.only, "only", "", "scenarios whose name contains this")
	flag.StringVar(&o.json, "json", "", "write the results to this file too")
	flag.StringVar(&o.baseline, "baseline", "", "results of an earlier run: ratios more than 20 % worse are reported")
	flag.StringVar(&o.profile, "profile", "", "write a profile of the whole machine, made by perf(1) while rows are measured, to this file")
	flag.IntVar(&o.disk, "disk", 0, "keep davit's data on an ext4 with a journal of its own, of so many GiB at most; 0: below /var/tmp as it is")
	flag.StringVar(&o.growth, "growth", "", "measure how cost grows instead, and write the plots into this directory")
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

// inside does what a container runs of this program, see names.go.
func inside(args []string) (err error, is bool) {
	switch {
	case len(args) == 1 && args[0] == "echo":
		return echoMain(), true
	case len(args) == 2 && args[0] == "ask":
		clients, err := strconv.Atoi(args[1])
		if err != nil {
			return err, true
		}
		return askMain(clients), true
	}
	return nil, false
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
	if o.disk > 0 {
		undo, err := kernel.Disk(filepath.Join(dir, "root"), int64(o.disk)<<30, 0)
		if err != nil {
			return err
		}
		defer func() { _ = undo() }()
	}
	if err := likeInstalled(filepath.Join(dir, "root", "run")); err != nil {
		return err
	}
	if o.profile != "" {
		stop, err := record(ctx, o.profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	runners, err := newRunners(ctx, o, dir)
	if err != nil {
		return err
	}
	b := bench{options: o, dir: dir, runners: runners, stress: pressure()}
	if o.growth != "" {
		return b.growth(ctx, o.growth)
	}
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

// likeInstalled mounts a tmpfs where davit keeps what a reboot makes void: in
// an installed davit that is below /run, which is one.
func likeInstalled(run string) error {
	if err := os.MkdirAll(run, 0o711); err != nil {
		return err
	}
	if err := unix.Mount("davit-bench", run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0711"); err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", run, err)
	}
	return nil
}

// record begins a profile; stop ends it and prints where the time went.
func record(ctx context.Context, path string) (stop func(), err error) {
	perf := exec.CommandContext(ctx, "perf", "record", "--all-cpus", "--call-graph", "fp", "--freq", "1999", "--quiet", "--output", path)
	perf.Stderr = os.Stderr
	if err := perf.Start(); err != nil {
		return nil, fmt.Errorf("profile: %w (Debian's package is linux-perf)", err)
	}
	return func() {
		_ = perf.Process.Signal(os.Interrupt)
		_ = perf.Wait()
		for _, by := range []string{"comm", "comm,sym"} {
			report := exec.Command("perf", "report", "--input", path, "--no-children", "--sort", by, "--call-graph", "none", "--percent-limit", "0.5", "--stdio")
			report.Stdout, report.Stderr = os.Stdout, io.Discard
			_ = report.Run()
		}
	}, nil
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
