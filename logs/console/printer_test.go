package console

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 1500, time.UTC)

// out is a line of standard output; a bar at its end makes it a piece.
func out(source, text string) logs.Line {
	text, partial := strings.CutSuffix(text, "|")
	return logs.Line{Source: source, Stream: logs.Stdout, Time: noon, Text: []byte(text), Partial: partial}
}

func notice(source, text string) logs.Line {
	return logs.Line{Source: source, Stream: logs.Notice, Time: noon, Text: []byte(text)}
}

func printed(t *testing.T, o Options, names []string, lines ...logs.Line) string {
	t.Helper()
	var b strings.Builder
	p := New(&b, o)
	p.Name(names...)
	for _, l := range lines {
		if err := p.Print(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A terminal that is made wider or narrower has prefixes that fit from then on.
func TestPrefixesFollowTheTerminal(t *testing.T) {
	columns := 40
	var b strings.Builder
	p := New(&b, Options{Columns: func() int { return columns }})
	for _, columns = range []int{40, 80, 20} {
		if err := p.Print(out("the-service-of-all-1", "x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "…ervice-of-all-1  | x\nthe-service-of-all-1  | x\n…f-all-1  | x\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestLinesLookAsDockerComposePrintsThem(t *testing.T) {
	tests := map[string]struct {
		o     Options
		names []string
		lines []logs.Line
		want  string
	}{
		"prefixes are padded to the longest name": {
			Options{}, []string{"web-1", "database-1"},
			[]logs.Line{out("web-1", "hello"), out("database-1", "")},
			"web-1       | hello\ndatabase-1  | \n",
		},
		"wide names are padded by their width": {
			Options{}, []string{"データ-1", "web-1"},
			[]logs.Line{out("web-1", "größer"), out("データ-1", "日本語")},
			"web-1     | größer\nデータ-1  | 日本語\n",
		},
		"a long name leaves half of a narrow terminal to the text": {
			Options{Columns: func() int { return 40 }}, nil,
			[]logs.Line{out("a-service-with-a-rather-long-name-12", "x"), out("web-1", "y")},
			"…er-long-name-12  | x\nweb-1             | y\n",
		},
		"a very narrow terminal shows some of a name": {
			Options{Columns: func() int { return 10 }}, nil, []logs.Line{out("データ-サービス-1", "x")}, "… ビス-1  | x\n",
		},
		"a name that fits is whole": {
			Options{Columns: func() int { return 40 }}, nil, []logs.Line{out("sixteen-letters1", "x")}, "sixteen-letters1  | x\n",
		},
		"no prefix":  {Options{NoPrefix: true}, nil, []logs.Line{out("web-1", "hello\r")}, "hello\r\n"},
		"timestamps": {Options{Timestamps: true}, nil, []logs.Line{out("web-1", "x")}, "web-1  | 2026-05-01T12:00:00.000001500Z x\n"},
		"a notice has no bar": {
			Options{}, nil, []logs.Line{notice("web-1", "restarted, exit 1")}, "web-1 restarted, exit 1\n",
		},
		"pieces become a line where nobody watches": {
			Options{}, nil, []logs.Line{out("a-1", "one|"), out("b-1", "two"), out("a-1", " and a half")},
			"b-1  | two\na-1  | one and a half\n",
		},
		"an unfinished line ends with the output": {
			Options{}, nil, []logs.Line{out("a-1", "no end|")}, "a-1  | no end\n",
		},
		"a prompt is shown at once on a terminal": {
			Options{Terminal: true}, nil, []logs.Line{out("a-1", "name: |"), out("b-1", "two"), out("a-1", "Ada")},
			"a-1  | name: \nb-1  | two\na-1  | Ada\n",
		},
		"a progress bar keeps its prefix": {
			Options{Terminal: true}, nil, []logs.Line{out("a-1", "10%\r20%|"), out("a-1", "\r30%\r")},
			"a-1  | 10%\ra-1  | 20%\ra-1  | 30%\n",
		},
		"colours of the container end with its line": {
			Options{Color: true, Services: []string{"web"}}, nil, []logs.Line{out("web-1", "\x1b[31mred")},
			"\x1b[36mweb-1  | \x1b[0m\x1b[31mred\x1b[0m\n",
		},
		"replicas share their service's colour": {
			Options{Color: true, Services: []string{"db", "web"}}, nil, []logs.Line{out("web-1", "x"), out("web-12", "y"), out("db-1", "z")},
			"\x1b[33mweb-1  | \x1b[0mx\n\x1b[33mweb-12  | \x1b[0my\n\x1b[36mdb-1    | \x1b[0mz\n",
		},
		"grep leaves notices": {
			Options{Grep: regexp.MustCompile("^b.d$")}, nil,
			[]logs.Line{out("a-1", "good"), out("a-1", "b|"), out("a-1", "ad"), notice("a-1", "exited with code 0")},
			"a-1  | bad\na-1 exited with code 0\n",
		},
		"json": {
			Options{JSON: true}, nil, []logs.Line{out("a-1", "x|"), out("a-1", "y\x00é"), notice("a-1", "gone")},
			`{"source":"a-1","stream":"stdout","time":"2026-05-01T12:00:00.0000015Z","text":"xy\u0000é"}` + "\n" +
				`{"source":"a-1","stream":"notice","time":"2026-05-01T12:00:00.0000015Z","text":"gone"}` + "\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := printed(t, test.o, test.names, test.lines...); got != test.want {
				t.Fatalf("got\n%q, want\n%q", got, test.want)
			}
		})
	}
}

func TestColourModes(t *testing.T) {
	tests := []struct {
		mode         string
		noColor, tty bool
		env, value   string
		want, wrong  bool
	}{
		{mode: "auto", tty: true, want: true},
		{mode: "", tty: true, want: true},
		{mode: "auto"},
		{mode: "always", want: true},
		{mode: "always", noColor: true},
		{mode: "never", tty: true},
		{mode: "auto", tty: true, env: "NO_COLOR", value: "1"},
		{mode: "auto", tty: true, env: "NO_COLOR", value: "", want: true},
		{mode: "always", env: "NO_COLOR", value: "1", want: true},
		{mode: "auto", tty: true, env: "TERM", value: "dumb"},
		{mode: "sometimes", wrong: true},
	}
	for _, c := range tests {
		getenv := func(k string) string {
			if k == c.env {
				return c.value
			}
			return ""
		}
		got, err := Color(c.mode, c.noColor, c.tty, getenv)
		if got != c.want || (err != nil) != c.wrong {
			t.Errorf("%+v gives %v, %v", c, got, err)
		}
	}
}

func TestColourOfAServiceIsStable(t *testing.T) {
	first := newPalette(nil).of("worker").Render("x")
	if again := newPalette(nil).of("worker").Render("x"); again != first {
		t.Fatalf("%q, then %q", first, again)
	}
	p, seen := newPalette(nil), map[string]bool{}
	for _, s := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		seen[p.of(s).Render("x")] = true
	}
	if len(seen) != len(ansiColors) {
		t.Fatalf("ten services have %d colours", len(seen))
	}
}

// pipe is a writer that tests look into while it is used.
type pipe struct {
	mu     sync.Mutex
	b      strings.Builder
	writes int
	err    error
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes++
	if p.err != nil {
		return 0, p.err
	}
	return p.b.Write(b)
}

func (p *pipe) has() (string, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String(), p.writes
}

func TestOutputIsBufferedButNotKept(t *testing.T) {
	w := new(pipe)
	p := New(w, Options{})
	for range 1000 {
		p.Print(out("a-1", strings.Repeat("x", 100)))
	}
	for deadline := time.Now().Add(time.Minute); ; {
		s, writes := w.has()
		if strings.Count(s, "\n") == 1000 {
			if writes > 20 {
				t.Fatalf("%d writes for 1000 lines", writes)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the last lines were never written")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestErrorOfTheWriterComesBack(t *testing.T) {
	p := New(&pipe{err: io.ErrClosedPipe}, Options{})
	p.Print(out("a-1", "x"))
	if err := p.Flush(); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got %v", err)
	}
	if err := p.Print(out("a-1", "y")); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got %v", err)
	}
}

func TestHeldPiecesAreBounded(t *testing.T) {
	var b strings.Builder
	p := New(&b, Options{})
	piece := logs.Line{Source: "a-1", Stream: logs.Stdout, Text: []byte(strings.Repeat("x", 1<<20)), Partial: true}
	for range 20 {
		if err := p.Print(piece); err != nil {
			t.Fatal(err)
		}
		for _, h := range p.held {
			if len(h.text) > maxHeld {
				t.Fatalf("%d bytes are held", len(h.text))
			}
		}
	}
	p.Print(out("a-1", "end"))
	p.Close()
	if got, want := b.Len(), len("a-1  | ")+20<<20+len("end\n"); got != want || strings.Count(b.String(), "\n") != 1 {
		t.Fatalf("%d bytes, want %d", got, want)
	}
}

type list []logs.Line

func (l *list) Next(context.Context) (logs.Line, error) {
	if len(*l) == 0 {
		return logs.Line{}, io.EOF
	}
	first := (*l)[0]
	*l = (*l)[1:]
	return first, nil
}

func TestCopyPrintsAll(t *testing.T) {
	var b strings.Builder
	if err := New(&b, Options{}).Copy(t.Context(), &list{out("a-1", "1"), out("a-1", "2")}); err != nil {
		t.Fatal(err)
	}
	if b.String() != "a-1  | 1\na-1  | 2\n" {
		t.Fatalf("%q", b.String())
	}
}
