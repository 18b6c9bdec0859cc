package journal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/logs"
)

// Two streams are written to in turn, at any moment, halves of lines crossing.
// Each line has to be whole and on its stream, and no line may come before one
// that was completed more than a millisecond earlier.
//
// The kernel keeps no time for what lies in a pipe, so how far order can be told
// depends on when the journal gets to look. On a machine with more work than
// processors it may have to wait for longer than a millisecond, so it goes before
// that work here. Where that is not allowed, or the machine itself has to wait,
// an attempt shows nothing, and is repeated.
func TestTwoStreamsKeepTheOrderOfArrival(t *testing.T) {
	schedule(unix.SCHED_FIFO, 10)
	defer schedule(unix.SCHED_NORMAL, 0)
	var late int
	var worst time.Duration
	for range 40 {
		if late, worst = interleaved(t); late == 0 {
			return
		}
	}
	t.Fatalf("in each of 40 attempts lines came too late; in the last %d, by up to %v", late, worst)
}

// schedule puts all threads of this process under a policy of sched(7), and with
// them those that they will make, as far as the process may.
func schedule(policy, priority uint32) {
	for range 3 { // a thread may have made another meanwhile
		threads, _ := os.ReadDir("/proc/self/task")
		for _, thread := range threads {
			id, _ := strconv.Atoi(thread.Name())
			_ = unix.SchedSetAttr(id, &unix.SchedAttr{Policy: policy, Priority: priority}, 0)
		}
	}
}

// interleaved writes 400 lines to two streams and tells how many were overtaken
// by more than a millisecond.
func interleaved(t *testing.T) (late int, worst time.Duration) {
	t.Helper()
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	defer w.Close()
	var pumps sync.WaitGroup
	var ends [2]*os.File
	for i, s := range []logs.Stream{logs.Stdout, logs.Stderr} {
		r, pw := blockingPipe(t)
		defer r.Close()
		ends[i] = pw
		pumps.Go(func() {
			if err := w.Pump(context.Background(), s, r); err != nil {
				t.Error(err)
			}
		})
	}
	count := writeHalves(ends)
	ends[0].Close()
	ends[1].Close()
	pumps.Wait()

	var seen [2]int
	var top int64
	for _, l := range readAll(t, dir, all) {
		stream, text, _ := strings.Cut(l, " ")
		s := map[string]int{"stdout": 0, "stderr": 1}[stream]
		f := strings.Fields(text)
		if len(f) != 4 || f[0] != fmt.Sprint(s) || f[1] != fmt.Sprint(seen[s]) || f[2] != "half" {
			t.Fatalf("%s has %q where line %d of stream %d should be", stream, text, seen[s], s)
		}
		seen[s]++
		at, _ := strconv.ParseInt(f[3], 10, 64)
		if d := time.Duration(top - at); d > time.Millisecond {
			late++
			worst = max(worst, d)
		}
		top = max(top, at)
	}
	if seen != count {
		t.Fatalf("%d lines of %d", seen, count)
	}
	return late, worst
}

// writeHalves prints the halves of 400 lines, each line on one of the files and
// the time of its completion at its end.
func writeHalves(ends [2]*os.File) (count [2]int) {
	var open [2]bool
	for count[0]+count[1] < 400 || open[0] || open[1] {
		s := rand.IntN(2)
		if open[s] {
			fmt.Fprintf(ends[s], " half %d\n", time.Now().UnixNano())
			count[s]++
		} else {
			fmt.Fprintf(ends[s], "%d %d", s, count[s])
		}
		open[s] = !open[s]
		// Time that goes by is what is tested.
		time.Sleep(time.Duration(rand.Int64N(int64(600 * time.Microsecond))))
	}
	return count
}
