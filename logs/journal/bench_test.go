package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
)

const (
	benchLines = 1_000_000
	benchWidth = 200
)

// fill writes lines of 200 bytes, as a program with a buffer of 64 KiB does.
func fill(w io.Writer, lines int) {
	line := append(bytes.Repeat([]byte("x"), benchWidth-1), '\n')
	block := bytes.Repeat(line, 320)
	for lines > 0 {
		n := min(lines, 320)
		w.Write(block[:n*benchWidth])
		lines -= n
	}
}

func BenchmarkTakeMillionLines(b *testing.B) {
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "log")
		w := wr(b, dir, Options{})
		pour(b, w, logs.Stdout, func(w io.Writer) { fill(w, benchLines) })
		w.Close()
		os.RemoveAll(dir)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/million")
}

// bigLog is a log of n million lines, shared by the benchmarks that read.
func bigLog(b *testing.B, millions int) string {
	dir := filepath.Join(b.TempDir(), "log")
	w := wr(b, dir, Options{MaxSize: 1 << 30, MaxFiles: 64})
	for range millions {
		pour(b, w, logs.Stdout, func(w io.Writer) { fill(w, benchLines) })
	}
	w.Close()
	return dir
}

func drainAll(b *testing.B, dir string, o ReadOptions) (n int) {
	r, err := Open(dir, o)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	ctx := context.Background()
	for {
		if _, err := r.Next(ctx); err != nil {
			return n
		}
		n++
	}
}

func BenchmarkReadMillionLines(b *testing.B) {
	dir := bigLog(b, 1)
	for b.Loop() {
		if n := drainAll(b, dir, all); n != benchLines {
			b.Fatalf("%d lines", n)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/million")
}

func BenchmarkTail100(b *testing.B) {
	dir := bigLog(b, 5)
	for b.Loop() {
		if n := drainAll(b, dir, ReadOptions{Tail: 100}); n != 100 {
			b.Fatalf("%d lines", n)
		}
	}
}

func BenchmarkSinceLastMoment(b *testing.B) {
	dir := bigLog(b, 5)
	r, err := Open(dir, all)
	if err != nil {
		b.Fatal(err)
	}
	at := timeOf(r.gens[len(r.gens)-1].lastTime())
	r.Close()
	for b.Loop() {
		if n := drainAll(b, dir, ReadOptions{Tail: -1, Since: at}); n == 0 || n > benchLines {
			b.Fatalf("%d lines", n)
		}
	}
}

// BenchmarkSteadyOutput is a container that prints 20,000 lines of 100 bytes a
// second, one write each; it reports which part of a core the journal takes.
// The producer is another process, so that its time does not count.
func BenchmarkSteadyOutput(b *testing.B) { steady(b, "steady", logs.Stdout) }

// BenchmarkSteadyOutputOnTwoStreams is the same with the lines on both streams
// in turn: the journal then looks more often, for the sake of their order.
func BenchmarkSteadyOutputOnTwoStreams(b *testing.B) { steady(b, "pair", logs.Stdout, logs.Stderr) }

func steady(b *testing.B, role string, streams ...logs.Stream) {
	dir := filepath.Join(b.TempDir(), "log")
	w := wr(b, dir, Options{})
	var rs, ws []*os.File
	for range streams {
		r, pw := blockingPipe(b)
		rs, ws = append(rs, r), append(ws, pw)
	}
	stop := produce(b, role, rs, ws)
	ctx, cancel := context.WithCancel(context.Background())
	var pumps sync.WaitGroup
	for i, s := range streams {
		pumps.Go(func() {
			if err := w.Pump(ctx, s, rs[i]); err != nil {
				b.Error(err)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	start, cpu := time.Now(), cpuTime()
	time.Sleep(3 * time.Second)
	used := cpuTime() - cpu
	took := time.Since(start)
	stop()
	cancel()
	pumps.Wait()
	lines := w.seg.last.ends.total() / 100
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "%core")
	b.ReportMetric(float64(lines)/time.Since(start).Seconds(), "lines/s")
	b.ReportMetric(float64(w.seg.size/recordSize)/took.Seconds(), "records/s")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLookup looks for the end and for a moment of logs of so many million
// lines; DAVIT_LONG adds one of a hundred.
func BenchmarkLookup(b *testing.B) {
	sizes := []int{1, 10}
	if os.Getenv("DAVIT_LONG") != "" {
		sizes = append(sizes, 100)
	}
	for _, millions := range sizes {
		b.Run(fmt.Sprint(millions), func(b *testing.B) { lookup(b, millions*1_000_000) })
	}
}

func lookup(b *testing.B, lines int) {
	dir := filepath.Join(b.TempDir(), "log")
	w := wr(b, dir, Options{MaxSize: 256 << 20, MaxFiles: 64})
	var moments []time.Time
	for range 10 {
		moments = append(moments, time.Now())
		pour(b, w, logs.Stdout, func(w io.Writer) {
			block := bytes.Repeat([]byte("123456789\n"), 5000)
			for range lines / 10 / 5000 {
				w.Write(block)
			}
		})
	}
	w.Close()
	var tail, since time.Duration
	for b.Loop() {
		start := time.Now()
		if n := drainAll(b, dir, ReadOptions{Tail: 100}); n != 100 {
			b.Fatalf("%d lines", n)
		}
		tail += time.Since(start)
		for _, at := range moments {
			since = max(since, first(b, dir, at))
		}
	}
	b.ReportMetric(float64(tail.Nanoseconds())/float64(b.N), "ns/tail")
	b.ReportMetric(float64(since.Nanoseconds()), "ns-worst/since")
}

// first returns how long it takes to the first line since a moment.
func first(b *testing.B, dir string, at time.Time) time.Duration {
	start := time.Now()
	r, err := Open(dir, ReadOptions{Tail: -1, Since: at})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(context.Background()); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}
