package journal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/davit-run/davit/logs"
)

// said writes a log of the given lines.
func said(t *testing.T, dir string, lines ...string) {
	t.Helper()
	w := wr(t, dir, Options{})
	pour(t, w, logs.Stdout, func(w io.Writer) { io.WriteString(w, strings.Join(lines, "\n")+"\n") })
	w.Close()
}

// history reads a log and those before it.
func history(t *testing.T, dir string, o ReadOptions) (out []string) {
	t.Helper()
	o.Past = true
	h, err := OpenHistory(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for {
		l, err := h.Next(t.Context())
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, shown(l))
	}
}

func TestInheritedLogsAreReadFirst(t *testing.T) {
	root := t.TempDir()
	log := func(n int) string { return fmt.Sprint(root, "/", n, "/log") }
	for n, words := range [][]string{{"a1", "a2"}, {"b1"}, {"c1", "c2"}} {
		said(t, log(n), words...)
		if n > 0 {
			if err := Inherit(log(n), log(n-1), 1<<20); err != nil {
				t.Fatal(err)
			}
		}
	}
	equal(t, history(t, log(2), all), "stdout a1", "stdout a2", "notice recreated", "stdout b1", "notice recreated", "stdout c1", "stdout c2")
	equal(t, history(t, log(2), ReadOptions{Tail: 2}), "stdout c1", "stdout c2")
	equal(t, history(t, log(2), ReadOptions{Tail: 4}), "stdout a2", "notice recreated", "stdout b1", "notice recreated", "stdout c1", "stdout c2")
	equal(t, readAll(t, log(2), all), "stdout c1", "stdout c2")
	if dirs, err := Past(log(2)); err != nil || len(dirs) != 2 {
		t.Fatalf("%q, %v lie before the last", dirs, err)
	}
	if err := Inherit(log(2), log(1), 1<<20); err != nil { // again, as after a crash
		t.Fatal(err)
	}
	if got := history(t, log(2), all); len(got) != 7 {
		t.Fatalf("after handing on twice there is %q", got)
	}
}

func TestInheritedLogsHaveALimit(t *testing.T) {
	root := t.TempDir()
	log := func(n int) string { return fmt.Sprint(root, "/", n, "/log") }
	for n := range 5 {
		said(t, log(n), fmt.Sprint(n, strings.Repeat("x", 1000)))
		if n > 0 {
			if err := Inherit(log(n), log(n-1), 2500); err != nil {
				t.Fatal(err)
			}
			os.RemoveAll(fmt.Sprint(root, "/", n-1))
		}
	}
	got := history(t, log(4), all)
	if len(got) != 6 || got[0] != "notice older lines were dropped: the logs of 2 earlier containers" || got[1][:8] != "stdout 2" {
		t.Fatalf("there is %q", clip(got))
	}
}

func TestLogWithoutOutputIsNotHandedOn(t *testing.T) {
	root := t.TempDir()
	wr(t, root+"/old/log", Options{}).Close()
	if err := Inherit(root+"/new/log", root+"/old/log", 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root + "/new"); !os.IsNotExist(err) {
		t.Fatalf("an empty log left something: %v", err)
	}
}
