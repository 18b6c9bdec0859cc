package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A curve is a plot of how a cost grows; both axes are logarithmic.
type curve struct {
	file, title, x string
	series         []series
}

// A series is one line of a plot. Its points are sizes and what they take.
type series struct {
	name   string
	points []point
}

type point struct {
	x    float64
	took time.Duration
}

// growth measures how cost grows with services, names, files and lines, and
// writes one plot for each into a directory.
func (b *bench) growth(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) (curve, error){b.lives, b.plans, b.names, b.contexts, b.lines} {
		c, err := measure(ctx)
		if err != nil {
			return err
		}
		for _, s := range c.series {
			fmt.Printf("%s, %s:", c.title, s.name)
			for _, p := range s.points {
				fmt.Printf("  %s %s", tick(p.x), p.took.Round(10*time.Nanosecond))
			}
			fmt.Println()
		}
		if err := os.WriteFile(filepath.Join(dir, c.file), c.svg(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// lives brings projects of more and more services up and down.
func (b *bench) lives(ctx context.Context) (curve, error) {
	c := curve{file: "services.svg", title: "A project's life", x: "services"}
	for _, n := range []int{1, 10, 50, 200} {
		up, down := []string{"up", "-d"}, []string{"down", "-t", "0"}
		err := b.measure(ctx, scenario{name: fmt.Sprint("growth ", n), services: n, steps: []step{
			{row: "up -d", args: up}, {row: "up -d again", args: up}, {row: "ps", args: []string{"ps"}}, {row: "down", args: down},
		}})
		if err != nil {
			return c, err
		}
		c.take(b, n)
	}
	return c, nil
}

// take moves what was measured into the curve: the rows of a size, one series
// per row and runner.
func (c *curve) take(b *bench, size int) {
	for _, r := range b.rows {
		for i, times := range r.times {
			name := r.name
			if len(b.runners) > 1 {
				name = b.runners[i].name + " " + name
			}
			c.add(name, point{float64(size), time.Duration(sum(times).Median * float64(time.Millisecond))})
		}
	}
	b.rows = nil
}

func (c *curve) add(name string, p point) {
	for i := range c.series {
		if c.series[i].name == name {
			c.series[i].points = append(c.series[i].points, p)
			return
		}
	}
	c.series = append(c.series, series{name, []point{p}})
}

// plans loads and plans what is never started.
func (b *bench) plans(ctx context.Context) (curve, error) {
	c := curve{file: "plans.svg", title: "Loading and planning", x: "services"}
	return c, c.benchmarks(ctx, map[string]string{"Load": "files to model", "Brief": "names only", "Plan": "plan"}, "./project/compose", "./reconcile")
}

func (b *bench) names(ctx context.Context) (curve, error) {
	c := curve{file: "names.svg", title: "One DNS answer, without sockets", x: "names"}
	return c, c.benchmarks(ctx, map[string]string{"Answer": "A record"}, "./netdns/resolver")
}

func (b *bench) lines(ctx context.Context) (curve, error) {
	c := curve{file: "lines.svg", title: "Looking something up in a log", x: "million lines"}
	return c, c.benchmarks(ctx, map[string]string{"Lookup tail": "--tail 100", "Lookup since": "--since, the slowest of ten"}, "./logs/journal")
}

// contexts builds from larger and larger directories, with nothing to do and
// with one file changed.
func (b *bench) contexts(ctx context.Context) (curve, error) {
	c := curve{file: "contexts.svg", title: "A build", x: "files in the context"}
	for _, n := range []int{1_000, 10_000, 100_000} {
		err := b.measure(ctx, scenario{name: fmt.Sprint("context ", n), file: plainBuild, before: []string{"build", "--quiet"},
			prepare: func(dir string) error { return fillFiles(dir, n) },
			steps: []step{
				{row: "cached", args: []string{"build", "--quiet", "plain"}},
				{row: "one file changed", call: changeAndBuild("plain")},
			}})
		if err != nil {
			return c, err
		}
		c.take(b, n)
	}
	return c, nil
}

const plainBuild = "services:\n  plain:\n    build:\n      context: .\n      dockerfile_inline: |\n        FROM busybox\n        COPY . /app/\n"

// fillFiles writes a context of so many small files.
func fillFiles(dir string, n int) error {
	noise := rand.NewChaCha8([32]byte{2})
	b := make([]byte, 600)
	for i := range n {
		sub := filepath.Join(dir, "src", fmt.Sprintf("d%02d", i%100))
		if i < 100 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		_, _ = noise.Read(b)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d.js", i)), b[:100+i%500], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// benchLine is a line of `go test -bench`: the benchmark, its size, and values
// with their units.
var benchLine = regexp.MustCompile(`^Benchmark(\w+)/(\d+)(?:-\d+)?\s+\d+\s+(.*)$`)

// benchmarks adds what Go benchmarks that come in sizes measure. wanted maps
// the names of benchmarks, with the name of a metric of their own behind, to
// those of the series.
func (c *curve) benchmarks(ctx context.Context, wanted map[string]string, packages ...string) error {
	var which []string
	for name := range wanted {
		which = append(which, strings.Fields(name)[0])
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-tags", "seccomp netgo osusergo", "-run", "^$",
		"-bench", "^Benchmark(" + strings.Join(which, "|") + ")$", "-benchtime", "0.3s"}, packages...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go test -bench: %w\n%s", err, out)
	}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		m := benchLine.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		size, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return err
		}
		c.metrics(wanted, m[1], size, strings.Fields(m[3]))
	}
	return nil
}

// metrics adds those values of one line that are wanted: ns/op under the
// benchmark's name, ns/NAME and ns-worst/NAME with NAME behind it.
func (c *curve) metrics(wanted map[string]string, bench string, size float64, fields []string) {
	for i := 0; i+1 < len(fields); i += 2 {
		unit, of, _ := strings.Cut(fields[i+1], "/")
		key := bench + " " + of
		if of == "op" {
			key = bench
		}
		v, err := strconv.ParseFloat(fields[i], 64)
		if name, ok := wanted[key]; ok && err == nil && strings.HasPrefix(unit, "ns") {
			c.add(name, point{size, time.Duration(v)})
		}
	}
}
