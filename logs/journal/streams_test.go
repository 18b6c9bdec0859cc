package journal

import (
	"bytes"
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
	"golang.org/x/sys/unix"

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
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if l, err := r.Next(ctx); err != nil || shown(l) != want {
			t.Fatalf("got %q, %v; want %q", shown(l), err, want)
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

func TestFullDiskDropsCountsAndRecovers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	ballast := make([]byte, 1<<20)
	os.WriteFile(dir+"/ballast", ballast, 0o600)
	w := wr(t, dir+"/log", Options{})
	r, pw := blockingPipe(t)
	defer r.Close()
	done := make(chan error, 1)
	go func() { done <- w.Pump(context.Background(), logs.Stdout, r) }()

	line := append(bytes.Repeat([]byte("y"), 999), '\n')
	written := 0
	print := func() {
		start := time.Now()
		pw.Write(line)
		written++
		if d := time.Since(start); d > time.Second {
			t.Fatalf("the container was held up for %v", d)
		}
	}
	for range 4000 {
		print()
	}
	os.Remove(dir + "/ballast")
	for deadline := time.Now().Add(10 * time.Second); !noticed(t, dir+"/log"); {
		if time.Now().After(deadline) {
			t.Fatal("no notice of what was dropped")
		}
		print()
		time.Sleep(time.Millisecond)
	}
	io.WriteString(pw, "the end\n")
	pw.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	lines, dropped, cut := 0, 0, 0
	for _, l := range readAll(t, dir+"/log", all) {
		text := l[7:]
		switch {
		case strings.HasPrefix(l, "notice"):
			var n int
			fmt.Sscanf(text, "the disk was full: %d lines", &n)
			dropped += n
		case len(text) == 999 || text == "the end":
			lines++
		default:
			cut++
		}
	}
	if lines+dropped != written+1 || cut > 1 {
		t.Fatalf("%d lines kept and %d dropped of %d, %d cut", lines, dropped, written+1, cut)
	}
}

func noticed(t *testing.T, dir string) bool {
	for _, l := range readAll(t, dir, all) {
		if strings.HasPrefix(l, "notice the disk was full") {
			return true
		}
	}
	return false
}

func TestFiftyIdleContainersNeedNoThreads(t *testing.T) {
	before := threads(t)
	ctx, cancel := context.WithCancel(t.Context())
	var pumps sync.WaitGroup
	for i := range 50 {
		w := wr(t, fmt.Sprintf("%s/%d", t.TempDir(), i), Options{})
		for _, s := range []logs.Stream{logs.Stdout, logs.Stderr} {
			r, pw := blockingPipe(t)
			defer r.Close()
			defer pw.Close()
			pumps.Go(func() { w.Pump(ctx, s, r) })
		}
	}
	for waiting := 0; waiting < 100; runtime.Gosched() {
		p, _ := pipes()
		p.mu.Lock()
		waiting = len(p.ready)
		p.mu.Unlock()
	}
	if n := threads(t); n > before+8 {
		t.Errorf("%d threads, %d before", n, before)
	}
	cancel()
	pumps.Wait()
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
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before || openFiles(t) > fds; {
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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
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
