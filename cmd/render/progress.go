package render

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/davit-run/davit/reconcile/apply"
)

// A Progress shows what a plan is doing while it runs.
type Progress interface {
	// Report shows one change; calls come one at a time.
	Report(apply.Event)
	// Close shows the last state and gives the terminal back.
	Close()
}

// The modes of progress, as --progress takes them.
const (
	Auto  = "auto"
	TTY   = "tty"
	Plain = "plain"
	JSON  = "json"
	Quiet = "quiet"
)

// NewProgress returns the progress of a mode on out; verb heads it on a
// terminal. Colour says whether ANSI colours may be used. A mode nobody knows
// is an error.
func NewProgress(mode, verb string, out *os.File, colour bool) (Progress, error) {
	if Draws(mode, out) {
		return newLive(verb, out, colour), nil
	}
	switch mode {
	case "", Auto, Plain:
		return newPlain(verb, out), nil
	case JSON:
		return lines{json.NewEncoder(out)}, nil
	case Quiet:
		return quiet{}, nil
	}
	return nil, fmt.Errorf("unsupported --progress value %q: use one of auto, tty, plain, json, quiet", mode)
}

// Draws says whether the progress of a mode on out paints over itself: on a
// terminal that can, with nobody but a person looking, unless a mode says
// otherwise.
func Draws(mode string, out *os.File) bool {
	switch mode {
	case TTY:
		return true
	case "", Auto:
		return term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb" && !InCI()
	}
	return false
}

// InCI says whether this is a job of a continuous integration, as most of them
// tell: what it prints is kept as a file, even where it has a terminal.
func InCI() bool {
	ci := os.Getenv("CI")
	return ci != "" && ci != "false" && ci != "0"
}

// plain prints one line for each change, and a summary.
type plain struct {
	verb  string
	out   io.Writer
	begun time.Time
	done  map[string]bool // by object: it needs no more work
	wrong int
}

func newPlain(verb string, out io.Writer) *plain {
	return &plain{verb: verb, out: out, begun: time.Now(), done: map[string]bool{}}
}

// Report prints the change in the words that scripts match.
func (p *plain) Report(e apply.Event) {
	p.done[e.Kind+" "+e.Name] = e.Done
	if e.Word == "Error" {
		p.wrong++
	}
	if e.Err != nil {
		what, _, _ := strings.Cut(e.Err.Error(), "\n")
		fmt.Fprintf(p.out, " %s %s %s %s\n", e.Kind, e.Name, e.Word, what)
		return
	}
	fmt.Fprintf(p.out, " %s %s %s\n", e.Kind, e.Name, e.Word)
}

// Close sums up, unless there was too little to sum up.
func (p *plain) Close() {
	finished := 0
	for _, done := range p.done {
		if done {
			finished++
		}
	}
	if len(p.done) < 2 {
		return
	}
	line := fmt.Sprintf("[+] %s %d/%d", p.verb, finished, len(p.done))
	if p.wrong > 0 {
		line += fmt.Sprintf(", %d failed", p.wrong)
	}
	fmt.Fprintf(p.out, "%s in %.1fs\n", line, time.Since(p.begun).Seconds())
	clear(p.done) // once
}

// lines prints one JSON object for each change, with docker compose's keys.
type lines struct{ out *json.Encoder }

// Report prints the change.
func (l lines) Report(e apply.Event) {
	m := struct {
		Error  bool   `json:"error,omitempty"`
		ID     string `json:"id"`
		Status string `json:"status"`
		Text   string `json:"text"`
		Detail string `json:"details,omitempty"`
	}{ID: e.Kind + " " + e.Name, Text: e.Word, Status: "Working"}
	switch {
	case e.Word == "Error":
		m.Status, m.Error = "Error", true
	case e.Err != nil:
		m.Status = "Warning"
	case e.Done:
		m.Status = "Done"
	}
	if e.Err != nil {
		m.Detail = e.Err.Error()
	}
	_ = l.out.Encode(m)
}

// Close has nothing to give back.
func (lines) Close() {}

// quiet shows nothing.
type quiet struct{}

// Report does nothing.
func (quiet) Report(apply.Event) {}

// Close does nothing.
func (quiet) Close() {}
