package cli

import (
	"bytes"
	"slices"
	"testing"

	"github.com/davit-run/davit/logs"
)

// What is typed at a prompt comes out as a line, with mistakes taken back.
func TestPrompt(t *testing.T) {
	for typed, want := range map[string]string{
		"web\n":           "web",
		"wx\x7feb\r":      "web",
		"äx\x7f\x7fw\n":   "w",
		"nonsense\x15w\n": "w",
		"wo\t\n":          "worker",
		"w\t\n":           "w",
		" web \n":         "web",
		"\n":              "",
		"web\x1b":         "gave up",
	} {
		var out bytes.Buffer
		got := "gave up"
		p := newPrompt(&out, "? ", []string{"web", "worker"}, func(s string) { got = s })
		keys := []byte(typed)
		over := slices.IndexFunc(keys, p.key)
		if got != want || over != len(keys)-1 {
			t.Errorf("%q is %q after %d keys, not %q after %d", typed, got, over+1, want, len(keys))
		}
	}
}

// A filter lets a service's lines through, or those that have a text, and what
// davit says of any.
func TestFilter(t *testing.T) {
	labels := map[string]string{"web-1": "web", "web-2": "web", "fixed": "db"}
	line := func(source, text string, s logs.Stream) logs.Line {
		return logs.Line{Source: source, Text: []byte(text), Stream: s}
	}
	all := []logs.Line{
		line("web-1", "ready", logs.Stdout), line("web-2", "a web Error", logs.Stderr),
		line("fixed", "error: web", logs.Stdout), line("fixed", "exited with code 1", logs.Notice),
	}
	for text, want := range map[string][]bool{
		"":      {true, true, true, true},
		"web":   {true, true, false, false},
		"db":    {false, false, true, true},
		"ERROR": {false, true, true, true},
	} {
		f := newFilter(text, labels)
		for i, l := range all {
			if f.shows(l) != want[i] {
				t.Errorf("%q shows %s %q: %v", text, l.Source, l.Text, !want[i])
			}
		}
	}
}
