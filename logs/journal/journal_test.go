package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
)

// wr opens a log in dir and fails the test when that cannot be done.
func wr(t testing.TB, dir string, o Options) *Writer {
	t.Helper()
	w, err := Create(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// pour has a pump take what feed writes, until its end.
func pour(t testing.TB, w *Writer, s logs.Stream, feed func(io.Writer)) {
	t.Helper()
	r, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		feed(pw)
		pw.Close()
	}()
	if err := w.Pump(t.Context(), s, r); err != nil {
		t.Fatal(err)
	}
}

func numbered(from, to int) func(io.Writer) {
	return func(w io.Writer) {
		var b bytes.Buffer
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "line %d\n", i)
			if b.Len() > 4000 {
				w.Write(b.Bytes())
				b.Reset()
			}
		}
		w.Write(b.Bytes())
	}
}

// shown is a line as tests compare it; a bar marks a Partial one.
func shown(l logs.Line) string {
	s := fmt.Sprintf("%.6s %s", l.Stream, l.Text)
	if l.Partial {
		s += "|"
	}
	return s
}

func readAll(t testing.TB, dir string, o ReadOptions) []string {
	t.Helper()
	r, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []string
	var seq uint64
	for {
		l, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if l.Seq != 0 && l.Seq <= seq {
			t.Fatalf("line %q has number %d after %d", l.Text, l.Seq, seq)
		}
		seq = max(seq, l.Seq)
		out = append(out, shown(l))
	}
}

func equal(t testing.TB, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d lines %q, want %q", len(got), clip(got), clip(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("line %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func clip(s []string) []string { return s[:min(len(s), 12)] }

var all = ReadOptions{Tail: -1}

func TestEveryLineComesBackOnItsStream(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	pour(t, w, logs.Stdout, func(w io.Writer) { io.WriteString(w, "one\n\ntwo\nno end") })
	pour(t, w, logs.Stderr, func(w io.Writer) { io.WriteString(w, "oops\n") })
	if err := w.Notice("exited\nwith 1"); err != nil {
		t.Fatal(err)
	}
	equal(t, readAll(t, dir, all), "stdout one", "stdout ", "stdout two", "stderr oops", "notice exited with 1", "stdout no end|")
	w.Close()
	w = wr(t, dir, Options{})
	pour(t, w, logs.Stdout, func(w io.Writer) { io.WriteString(w, " but now\n") })
	equal(t, readAll(t, dir, all), "stdout one", "stdout ", "stdout two", "stderr oops", "notice exited with 1", "stdout no end but now")
}

func TestRotationKeepsTheNewestAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{MaxSize: 8 << 10, MaxFiles: 3})
	pour(t, w, logs.Stdout, numbered(0, 20000))
	got := readAll(t, dir, all)
	if len(got) < 1000 || got[0][:19] != "notice older lines " {
		t.Fatalf("rotated log reads %q", clip(got))
	}
	var first int
	fmt.Sscanf(got[1], "stdout line %d", &first)
	for i, l := range got[1:] {
		if l != fmt.Sprintf("stdout line %d", first+i) {
			t.Fatalf("after line %d comes %q", first+i-1, l)
		}
	}
	if got[len(got)-1] != "stdout line 19999" {
		t.Fatalf("last is %q", got[len(got)-1])
	}
	var sum int64
	for _, c := range append(w.kept, closed{bytes: w.seg.bytes()}) {
		sum += c.bytes
	}
	if sum > 3*(8<<10)+4*minSegment {
		t.Fatalf("log of at most 24 KiB has %d bytes", sum)
	}
}

func TestTailIsTheEndOfTheWhole(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{MaxSize: 16 << 10, MaxFiles: 100})
	for i := range 40 {
		pour(t, w, logs.Stdout, numbered(i*100, i*100+100))
		pour(t, w, logs.Stderr, func(w io.Writer) { fmt.Fprintf(w, "half %d", i) })
		pour(t, w, logs.Stdout, func(w io.Writer) { fmt.Fprintf(w, "begun %d ", i) })
	}
	whole := readAll(t, dir, all)
	if len(whole) != 4002 {
		t.Fatalf("%d lines", len(whole))
	}
	for _, n := range []int{0, 1, 2, 3, 50, 99, 100, 101, 1234, 4001, 4002, 5000} {
		equal(t, readAll(t, dir, ReadOptions{Tail: n}), whole[len(whole)-min(n, len(whole)):]...)
	}
}

func TestSinceAndUntilByTime(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{MaxSize: 4 << 10, MaxFiles: 100})
	var at []time.Time
	for i := range 30 {
		at = append(at, time.Now())
		pour(t, w, logs.Stdout, func(w io.Writer) { fmt.Fprintf(w, "%d begun\n%d goes", i, i) })
		pour(t, w, logs.Stderr, func(w io.Writer) { fmt.Fprintf(w, "%0300d\n", i) })
	}
	whole := readAll(t, dir, all)
	for i := range at {
		from, to := 0, len(whole)
		for j, l := range whole {
			if l == fmt.Sprintf("stdout %d goes%d begun", i-1, i) || (i == 0 && l == "stdout 0 begun") {
				from, to = j, j
			}
		}
		equal(t, readAll(t, dir, ReadOptions{Tail: -1, Since: at[i]}), whole[from:]...)
		equal(t, readAll(t, dir, ReadOptions{Tail: -1, Until: at[i]}), whole[:to]...)
		equal(t, readAll(t, dir, ReadOptions{Tail: 3, Until: at[i]}), whole[max(0, to-3):to]...)
		equal(t, readAll(t, dir, ReadOptions{Tail: 5, Since: at[i]}), whole[max(from, len(whole)-5):]...)
	}
}

func TestLongLinesComeInPieces(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{MaxSize: 1 << 20, MaxFiles: 20})
	long := bytes.Repeat([]byte("x"), 5<<20)
	pour(t, w, logs.Stdout, func(w io.Writer) {
		w.Write(long)
		io.WriteString(w, "\nshort\n")
	})
	r, err := Open(dir, all)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	total := 0
	for {
		l, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Text) > MaxLine {
			t.Fatalf("a piece of %d bytes", len(l.Text))
		}
		total += len(l.Text)
		if !l.Partial {
			break
		}
	}
	if total != len(long) {
		t.Fatalf("the line came back with %d bytes of %d", total, len(long))
	}
	if l, err := r.Next(t.Context()); err != nil || string(l.Text) != "short" {
		t.Fatalf("after it came %q, %v", l.Text, err)
	}
	if n := cap(r.wins[0].buf); n > 3*MaxLine {
		t.Fatalf("the reader keeps %d bytes", n)
	}
}

func TestFollowerSeesEachLineOnceThroughRotation(t *testing.T) {
	dir := t.TempDir()
	o, lines := Options{MaxSize: 32 << 10, MaxFiles: 20}, 50_000
	if os.Getenv("DAVIT_LONG") != "" {
		o, lines = Options{MaxSize: 2600 << 10, MaxFiles: 100}, 10_000_000 // about 50 rotations, none of which drops
	}
	w := wr(t, dir, o)
	r, err := Open(dir, ReadOptions{Tail: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pour(t, w, logs.Stdout, func(w io.Writer) {
			numbered(0, lines)(w)
		})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var text []byte // where rotation cuts a line and the rest is late, it comes in pieces
	for i := 0; i < lines; {
		l, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %d lines: %v", i, err)
		}
		if text = append(text, l.Text...); l.Partial {
			continue
		}
		if want := fmt.Sprintf("line %d", i); string(text) != want {
			t.Fatalf("%s %q, want %q", l.Stream, text, want)
		}
		text = text[:0]
		i++
	}
	<-done
	r.Finish()
	if l, err := r.Next(ctx); err != io.EOF {
		t.Fatalf("after the end: %q, %v", l.Text, err)
	}
}

// A piece of a line that was shown already is ended where rotation took the rest
// of it before it could be read: what comes next is a line of its own.
func TestPieceWhoseRestWasDroppedIsEnded(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{MaxSize: 4 << 10, MaxFiles: 2})
	put := func(text string) { putChunk(t, w, 0, []byte(text), len(text)) }
	block := strings.Repeat(strings.Repeat("x", 99)+"\n", 50)
	put(block + "half a li") // the generation is full: what follows goes into the next
	r, err := Open(dir, ReadOptions{Tail: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := func() string {
		l, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return shown(l)
	}
	for got := ""; got != "stdout half a li|"; {
		got = next()
	}
	put("ne\n")
	for range 20 {
		put(block)
	}
	put("the end\n")
	r.Finish()
	equal(t, []string{next()}, "stdout ")
	if got := next(); !strings.HasPrefix(got, "notice ") || !strings.Contains(got, "dropped by rotation before") {
		t.Fatalf("after the piece comes %q", got)
	}
	if got := next(); got != "stdout "+strings.Repeat("x", 99) {
		t.Fatalf("after the notice comes %q", got)
	}
}
