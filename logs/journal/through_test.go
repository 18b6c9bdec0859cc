package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
	"github.com/davit-run/davit/logs/console"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/logs/mux"
)

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := journal.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, w
}

// taken is a log that has taken n lines of 200 bytes.
func taken(t testing.TB, dir string, n int) {
	t.Helper()
	w, err := journal.Create(dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, pw := pipe(t)
	go func() {
		line := append(bytes.Repeat([]byte("x"), 199), '\n')
		for range n / 100 {
			pw.Write(bytes.Repeat(line, 100))
		}
		pw.Close()
	}()
	if err := w.Pump(t.Context(), logs.Stdout, r); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkLogsOfMillionLines is what `davit logs` does with four containers.
func BenchmarkLogsOfMillionLines(b *testing.B) {
	root := b.TempDir()
	for i := range 4 {
		taken(b, fmt.Sprint(root, "/", i), 250_000)
	}
	for b.Loop() {
		m := mux.New()
		for i := range 4 {
			r, err := journal.Open(fmt.Sprint(root, "/", i), journal.ReadOptions{Tail: -1})
			if err != nil {
				b.Fatal(err)
			}
			m.Add(fmt.Sprint("web-", i), r)
		}
		m.Finish()
		var n counter
		if err := console.New(&n, console.Options{Color: true}).Copy(context.Background(), m); err != nil {
			b.Fatal(err)
		}
		if n < 200e6 {
			b.Fatalf("%d bytes", n)
		}
		m.Close()
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/million")
}

type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// BenchmarkLatency is from the container's write to the follower's line.
func BenchmarkLatency(b *testing.B) {
	dir := b.TempDir()
	w, err := journal.Create(dir, journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	r, pw := pipe(b)
	go w.Pump(context.Background(), logs.Stdout, r)
	defer pw.Close()
	follower, err := journal.Open(dir, journal.ReadOptions{Tail: -1, Follow: true})
	if err != nil {
		b.Fatal(err)
	}
	defer follower.Close()
	var worst, sum time.Duration
	for i := range b.N {
		time.Sleep(time.Duration(i%20) * time.Millisecond)
		start := time.Now()
		io.WriteString(pw, "ping\n")
		if _, err := follower.Next(context.Background()); err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		sum += took
		worst = max(worst, took)
	}
	b.ReportMetric(float64(sum.Microseconds())/float64(b.N), "µs/line")
	b.ReportMetric(float64(worst.Microseconds()), "µs-worst")
}
