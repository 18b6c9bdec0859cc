package journal

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/davit-run/davit/logs"
)

func TestConsoleIsTakenUntilItsLastUserHasGone(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	pr, pw := blockingPipe(t)
	defer pr.Close()
	defer pw.Close()
	io.WriteString(pw, "left in the pipe by a killed keeper\r\n")
	done := make(chan error, 1)
	go func() { done <- w.PumpConsole(t.Context(), master, pr, pw) }()
	r, err := Open(dir, ReadOptions{Tail: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	expect := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		// What a terminal has is shown at once: a line that the kernel hands out
		// in two parts comes in two pieces.
		for text := ""; ; {
			l, err := r.Next(ctx)
			text += string(l.Text)
			l.Text = []byte(text)
			if err == nil && shown(l) == want {
				return
			}
			if err != nil || !l.Partial || !strings.HasPrefix(want, "consol "+text) {
				t.Fatalf("got %q, %v; want %q", shown(l), err, want)
			}
		}
	}
	expect("consol left in the pipe by a killed keeper\r")
	io.WriteString(slave, "password: ")
	expect("consol password: |")
	io.WriteString(slave, "\nwelcome\n")
	expect("consol \r")
	expect("consol welcome\r")
	slave.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestStoppedPumpLeavesTheRestInThePipe(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	r, pw := blockingPipe(t)
	defer r.Close()
	defer pw.Close()
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Pump(ctx, logs.Stdout, r) }()
		fmt.Fprintf(pw, "%d\n", i)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	pw.Close()
	if err := w.Pump(t.Context(), logs.Stdout, r); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprintf("stdout %d", i))
	}
	equal(t, readAll(t, dir, all), want...)
}

// The pumps begin one after the other: 100 that begin at once are, on a busy
// machine, 100 threads stopped in the calls that open their pipes, and the
// runtime keeps the threads it has made.
func TestFiftyIdleContainersNeedNoThreads(t *testing.T) {
	before := threads(t)
	ctx, cancel := context.WithCancel(t.Context())
	var pumps sync.WaitGroup
	for i := range 50 {
		w := wr(t, fmt.Sprintf("%s/%d", t.TempDir(), i), Options{})
		for n, s := range []logs.Stream{logs.Stdout, logs.Stderr} {
			r, pw := blockingPipe(t)
			defer r.Close()
			defer pw.Close()
			pumps.Go(func() { w.Pump(ctx, s, r) })
			for begun(w) <= n {
				runtime.Gosched()
			}
		}
	}
	if n := threads(t); n > before+8+runtime.GOMAXPROCS(0) {
		t.Errorf("%d threads, %d before", n, before)
	}
	cancel()
	pumps.Wait()
}

// begun counts the pumps that have opened what they need.
func begun(w *Writer) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pumps)
}

func threads(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestReadersThatVanishLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	pour(t, w, logs.Stdout, numbered(0, 10))
	before, fds := runtime.NumGoroutine(), openFiles(t)
	for range 200 {
		r, err := Open(dir, ReadOptions{Follow: true, Tail: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before || openFiles(t) > fds; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d files, before %d and %d", runtime.NumGoroutine(), openFiles(t), before, fds)
		}
		time.Sleep(time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestFollowerEndsWithItsLog(t *testing.T) {
	dir := t.TempDir() + "/log"
	w := wr(t, dir, Options{})
	r, err := Open(dir, ReadOptions{Follow: true, Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pour(t, w, logs.Stdout, func(w io.Writer) { io.WriteString(w, "last words\n") })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if l, err := r.Next(ctx); err != nil || string(l.Text) != "last words" {
		t.Fatalf("got %q, %v", l.Text, err)
	}
	w.Close()
	os.RemoveAll(dir)
	if _, err := r.Next(ctx); err != io.EOF {
		t.Fatalf("after the log was removed: %v", err)
	}
}

// What gathers in a pipe is waited for, unless the container has ended.
func TestNothingGathersInAHurry(t *testing.T) {
	w := wr(t, t.TempDir(), Options{})
	r, pw := blockingPipe(t)
	defer r.Close()
	defer pw.Close()
	p, err := w.newPump(logs.Stdout, r)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.busy, p.took = true, time.Now().Add(time.Hour) // it has just taken something, however slow this is
	if p.patience(false) <= 0 {
		t.Error("a busy stream is not waited for")
	}
	w.Hurry()
	w.Hurry()
	if wait := p.patience(false); wait > 0 {
		t.Errorf("a stream of the dead is waited for %s", wait)
	}
	p.clock.sleep(time.Hour, w.hurried)
}
