package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
	"github.com/davit-run/davit/tests/kernel"
)

// The test binary is also the programs that these tests kill: JOURNAL_ROLE says
// which, and descriptor 3 is the pipe between them.
func TestMain(m *testing.M) {
	switch role := os.Getenv("JOURNAL_ROLE"); role {
	case "":
		os.Exit(m.Run())
	case "writer":
		writerMain()
	default:
		producerMain(role)
	}
}

// writerMain is a keeper that does nothing but take one stream.
func writerMain() {
	o, _ := OptionsFor(map[string]string{"max-size": os.Getenv("JOURNAL_SIZE"), "max-file": os.Getenv("JOURNAL_FILES")})
	if at := os.Getenv("JOURNAL_DIE"); at != "" {
		name, nth, _ := strings.Cut(at, ":")
		left, _ := strconv.Atoi(nth)
		failpoint = func(reached string) {
			if reached == name {
				if left--; left == 0 {
					syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
			}
		}
	}
	w, err := Create(os.Getenv("JOURNAL_DIR"), o)
	if err == nil {
		err = w.Pump(context.Background(), logs.Stdout, os.NewFile(3, "pipe"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// producerMain prints numbered lines, until it is told to stop: 20,000 a second
// (steady), the same on two streams in turn (pair), or as many as it can (burst).
func producerMain(role string) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	limit, _ := strconv.Atoi(os.Getenv("JOURNAL_LINES"))
	pipes := []*os.File{os.NewFile(3, "pipe")}
	if role == "pair" {
		pipes = append(pipes, os.NewFile(4, "pipe"))
	}
	start := time.Now()
	for i := 0; limit == 0 || i < limit; i++ {
		if i%20 == 0 && role != "burst" {
			select {
			case <-stop:
				fmt.Println(i)
				os.Exit(0)
			default:
			}
			time.Sleep(time.Until(start.Add(time.Duration(i) * 50 * time.Microsecond)))
		}
		if _, err := fmt.Fprintf(pipes[i%len(pipes)], "%099d\n", i); err != nil {
			os.Exit(3)
		}
	}
	fmt.Println(limit)
	os.Exit(0)
}

// producer starts a program that prints into a pipe; stop ends it and gives
// back how many lines it printed.
func producer(t testing.TB, role string, env ...string) (r *os.File, stop func() int) {
	t.Helper()
	r, w := blockingPipe(t)
	return r, produce(t, role, []*os.File{r}, []*os.File{w}, env...)
}

// produce is producer on given pipes, whose ends it closes when it is over.
func produce(t testing.TB, role string, r, w []*os.File, env ...string) (stop func() int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(env, "JOURNAL_ROLE="+role)
	cmd.ExtraFiles = w
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range w {
		f.Close()
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		for _, f := range r {
			f.Close()
		}
	})
	return func() int {
		cmd.Process.Signal(syscall.SIGTERM)
		word, _ := bufio.NewReader(out).ReadString('\n')
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil {
			t.Fatalf("producer said %q: %v", word, err)
		}
		return n
	}
}

// blockingPipe is a pipe that Go's poller does not know of.
func blockingPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// writerProcess starts a writer on the pipe's read end.
func writerProcess(t testing.TB, dir string, r *os.File, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(env, "JOURNAL_ROLE=writer", "JOURNAL_DIR="+dir)
	cmd.ExtraFiles = []*os.File{r}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	return exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

func TestKilledWriterLosesDoublesAndTearsNothing(t *testing.T) {
	kills := 20
	if os.Getenv("DAVIT_LONG") != "" {
		kills = 200
	}
	dir := t.TempDir()
	r, stop := producer(t, "steady")
	size := []string{"JOURNAL_SIZE=256k", "JOURNAL_FILES=100000"}
	got := follow(t, dir)
	for i := range kills {
		cmd := writerProcess(t, dir, r, size...)
		if i%4 != 0 { // others are killed before they have taken anything, maybe
			kernel.Eventually(t, time.Minute, "a hundred lines for each kill", func() bool { return takenBytes(t, dir) >= (i+1)*100*100 })
		}
		time.Sleep(time.Duration(10+i*37%60) * time.Millisecond) // kill it anywhere
		cmd.Process.Kill()
		if err := cmd.Wait(); !killed(err) {
			t.Fatalf("writer %d ended by itself: %v", i, err)
		}
	}
	last := writerProcess(t, dir, r, size...) // before: who prints into a full pipe hears nothing
	lines := stop()
	if err := last.Wait(); err != nil {
		t.Fatal(err)
	}
	expectNumbers(t, dir, lines)
	if n := got(); n != lines {
		t.Fatalf("the follower saw %d lines of %d", n, lines)
	}
	sound(t, dir)
}

// takenBytes is how much of standard output a log has.
func takenBytes(t *testing.T, dir string) (n int) {
	t.Helper()
	files, err := filepath.Glob(dir + "/stdout-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			n += int(st.Size())
		}
	}
	return n
}

// follow reads along while writers come and go, until end is called and it has
// read what is there. It counts lines, each of which has to be the next number.
//
// Where rotation may overtake it, it has to have been told before a number is
// missing.
func follow(t *testing.T, dir string) (end func() int) {
	t.Helper()
	r, err := Open(dir, ReadOptions{Tail: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	go func() {
		defer r.Close()
		n, told, cut := 0, false, ""
		var line []byte
		for {
			l, err := r.Next(ctx)
			if err != nil {
				if err != io.EOF {
					t.Errorf("after %d lines: %v", n, err)
				}
				break
			}
			if l.Stream == logs.Notice {
				told, cut = true, ""
				continue
			}
			if cut != "" {
				t.Errorf("after %d lines the follower saw %q", n, cut)
				break
			}
			if line = append(line, l.Text...); l.Partial {
				continue
			}
			v, err := strconv.Atoi(string(line))
			if err != nil || (v != n && (!told || v < n)) || len(line) != 99 {
				cut = string(line) // allowed where what follows was dropped
				line = line[:0]
				continue
			}
			line, told = line[:0], false
			n = v + 1
		}
		got <- n
	}()
	return func() int {
		r.Finish()
		return <-got
	}
}

func expectNumbers(t *testing.T, dir string, lines int) {
	t.Helper()
	r, err := Open(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range lines {
		l, err := r.Next(t.Context())
		if err != nil {
			t.Fatalf("after %d lines of %d: %v", i, lines, err)
		}
		if v, err := strconv.Atoi(string(l.Text)); err != nil || v != i || len(l.Text) != 99 || l.Partial {
			t.Fatalf("line %d is %s %q", i, l.Stream, l.Text)
		}
	}
	if l, err := r.Next(t.Context()); err != io.EOF {
		t.Fatalf("after the last line comes %q, %v", l.Text, err)
	}
}

// sound fails the test when Verify finds anything wrong.
func sound(t *testing.T, dir string) {
	t.Helper()
	report, err := Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) > 0 {
		t.Fatalf("the log has %q", report.Problems)
	}
}

func TestKilledInEachStepOfRotation(t *testing.T) {
	points := []string{"index made", "index written", "index renamed", "index removed", "stream removed", "spliced"}
	nths := []int{1, 2, 5}
	for _, point := range points {
		for _, nth := range nths {
			t.Run(fmt.Sprintf("%s %d", point, nth), func(t *testing.T) {
				dir := t.TempDir()
				const lines = 3000
				r, _ := producer(t, "burst", fmt.Sprint("JOURNAL_LINES=", lines))
				size := []string{"JOURNAL_SIZE=16k", "JOURNAL_FILES=3"}
				got := follow(t, dir)
				die := fmt.Sprintf("JOURNAL_DIE=%s:%d", point, nth)
				if err := writerProcess(t, dir, r, append(size, die)...).Wait(); !killed(err) {
					t.Fatalf("the writer did not die there: %v", err)
				}
				if err := writerProcess(t, dir, r, size...).Wait(); err != nil {
					t.Fatal(err)
				}
				if n := got(); n != lines {
					t.Errorf("the last the follower saw is line %d of %d", n, lines)
				}
				expectEnd(t, dir, lines)
				sound(t, dir)
			})
		}
	}
}

// expectEnd reads a rotated log: numbers without a gap up to the last.
func expectEnd(t *testing.T, dir string, lines int) {
	t.Helper()
	next := -1
	for _, l := range readAll(t, dir, all) {
		stream, text, _ := strings.Cut(l, " ")
		if stream == "notice" {
			continue
		}
		v, err := strconv.Atoi(text)
		if err != nil || len(text) != 99 || (next >= 0 && v != next) {
			t.Fatalf("%q comes where %d should", l, next)
		}
		next = v + 1
	}
	if next != lines {
		t.Fatalf("the log ends with %d, not %d", next-1, lines-1)
	}
}
