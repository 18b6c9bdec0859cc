package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A spread sums up what was measured for one row and runner: times, in
// milliseconds, or what the row's unit says.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// A line is one row as it is reported.
type line struct {
	Name  string  `json:"name"`
	CLI   spread  `json:"cli"`
	Peer  *spread `json:"peer,omitempty"`
	Ratio float64 `json:"ratio,omitempty"` // median of cli/peer, pair by pair
	Share float64 `json:"share,omitempty"` // of the rate of the row Of, in the same rounds
	Of    string  `json:"of,omitempty"`
	Unit  string  `json:"unit"`
}

// A report is the outcome of a run.
type report struct {
	Time     time.Time     `json:"time"`
	Kernel   string        `json:"kernel"`
	CLI      string        `json:"cli"`
	Peer     string        `json:"peer,omitempty"`
	Pressure time.Duration `json:"cpu_pressure"` // time in which something waited for a CPU
	Rows     []line        `json:"rows"`
	Floors   []line        `json:"floors"`
}

func (b *bench) report(floors []*row) report {
	r := report{Time: time.Now().UTC().Truncate(time.Second), CLI: b.cli, Peer: b.peer, Pressure: pressure() - b.stress}
	if v, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Kernel = strings.TrimSpace(string(v))
	}
	for _, row := range b.rows {
		l := row.line()
		l.Of, l.Share = row.of, b.share(row)
		r.Rows = append(r.Rows, l)
	}
	for _, row := range floors {
		r.Floors = append(r.Floors, row.line())
	}
	return r
}

// share is the median of how a row's rate compares to that of the row it names,
// round by round; 0 where it names none.
func (b *bench) share(r *row) float64 {
	i := slices.IndexFunc(b.rows, func(o *row) bool { return o.name == r.of })
	if r.of == "" || i < 0 {
		return 0
	}
	var shares []float64
	for k, t := range r.times[0] {
		shares = append(shares, float64(b.rows[i].times[0][k])/float64(t))
	}
	return median(shares)
}

func (r *row) line() line {
	l := line{Name: r.name, CLI: sum(r.times[0]), Unit: r.measure()}
	if len(r.times) > 1 {
		peer := sum(r.times[1])
		l.Peer = &peer
		var ratios []float64
		for i, t := range r.times[0] {
			ratios = append(ratios, float64(t)/float64(r.times[1][i]))
		}
		l.Ratio = median(ratios)
	}
	return l
}

func sum(times []time.Duration) spread {
	ms := make([]float64, len(times))
	for i, t := range times {
		ms[i] = float64(t) / float64(time.Millisecond)
	}
	return spread{Median: median(ms), Min: slices.Min(ms), Max: slices.Max(ms), N: len(ms)}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func (s spread) in(unit string) string {
	return fmt.Sprintf("%.1f (%.1f–%.1f) %s", s.Median, s.Min, s.Max, unit)
}

// print writes the report as tables.
func (r report) print(w io.Writer) {
	fmt.Fprintf(w, "kernel %s, %s, CPU pressure %.1f s\n\n", r.Kernel, r.Time.Format(time.DateTime), r.Pressure.Seconds())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "median (min–max)\t%s\t%s\tratio\n", r.CLI, r.Peer)
	for _, l := range r.Rows {
		if l.Peer == nil {
			fmt.Fprintf(t, "%s\t%s\t\t\n", l.Name, l.CLI.in(l.Unit))
		} else {
			fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\n", l.Name, l.CLI.in(l.Unit), l.Peer.in(l.Unit), l.Ratio)
		}
	}
	for _, l := range r.Rows {
		if l.Share > 0 {
			fmt.Fprintf(t, "%s: %.0f %% of the rate of %s\t\t\t\n", l.Name, 100*l.Share, l.Of)
		}
	}
	fmt.Fprintf(t, "\t\t\t\nfloor of this machine\t\t\t\n")
	for _, l := range r.Floors {
		fmt.Fprintf(t, "%s\t%s\t\t\n", l.Name, l.CLI.in(l.Unit))
	}
	t.Flush()
}

// compare reports the rows that have become more than a fifth slower than in
// an earlier run: by their ratio to the peer or, without one, to the floor of
// the machine, since times alone mean nothing on another.
func (r report) compare(w io.Writer, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var old report
	if err := json.Unmarshal(b, &old); err != nil {
		return fmt.Errorf("baseline %s: %w", path, err)
	}
	for _, l := range r.Rows {
		i := slices.IndexFunc(old.Rows, func(o line) bool { return o.Name == l.Name })
		if i < 0 {
			continue
		}
		was, is, unit := old.Rows[i].CLI.Median/old.floor(), l.CLI.Median/r.floor(), "times the floor"
		if l.Ratio > 0 && old.Rows[i].Ratio > 0 {
			was, is, unit = old.Rows[i].Ratio, l.Ratio, "of the peer"
		}
		if is > 1.2*was {
			fmt.Fprintf(w, "slower: %s: %.2f %s, was %.2f\n", l.Name, is, unit, was)
		}
	}
	return nil
}

// floor is what starting a program took in this run, in milliseconds.
func (r report) floor() float64 {
	for _, l := range r.Floors {
		if l.Name == forkAndExec && l.CLI.Median > 0 {
			return l.CLI.Median
		}
	}
	return 1
}

// pressure returns for how long, since boot, something waited for a CPU.
func pressure() time.Duration {
	b, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return 0
	}
	_, after, ok := strings.Cut(string(b), "total=")
	if !ok {
		return 0
	}
	var us int64
	if _, err := fmt.Sscan(after, &us); err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}
