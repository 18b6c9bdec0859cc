package render

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"

	"github.com/davit-run/davit/reconcile/apply"
)

// frame is how often the live lines are drawn anew.
const frame = 100 * time.Millisecond

// spinner turns while an object is worked on.
var spinner = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// live draws one line for each object and keeps it up to date.
type live struct {
	verb   string
	out    *os.File
	colour bool
	stop   chan struct{}
	done   chan struct{}

	mu    sync.Mutex
	rows  []*row
	index map[string]*row
	drawn int // lines on the screen that are ours
	turn  int
}

type row struct {
	label, word string
	begun, done time.Time
	finished    bool
	err         error
	detail      string // how far it is
}

// text is the object and what is done to it.
func (r *row) text() string {
	if r.finished || r.detail == "" {
		return r.label + " " + r.word
	}
	return r.label + " " + r.word + " " + r.detail
}

func newLive(verb string, out *os.File, colour bool) *live {
	l := &live{verb: verb, out: out, colour: colour, index: map[string]*row{}}
	l.stop, l.done = make(chan struct{}), make(chan struct{})
	go l.run()
	return l
}

func (l *live) run() {
	defer close(l.done)
	tick := time.NewTicker(frame)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.draw(false)
		case <-l.stop:
			l.draw(true)
			return
		}
	}
}

// Report takes one change in; the next frame shows it.
func (l *live) Report(e apply.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	label := e.Kind + " " + e.Name
	r := l.index[label]
	if r == nil {
		r = &row{label: label, begun: e.Time}
		l.index[label] = r
		l.rows = append(l.rows, r)
	}
	r.word, r.finished, r.err = e.Word, e.Done, e.Err
	if e.Done {
		r.done = e.Time
	}
}

// Close draws the last state.
func (l *live) Close() {
	close(l.stop)
	<-l.done
}

// draw paints over what it painted before. While work goes on only what fits
// the screen is shown, unfinished objects first to stay.
func (l *live) draw(last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rows) == 0 {
		return
	}
	l.turn++
	width, height, err := term.GetSize(int(l.out.Fd()))
	if err != nil || width < 20 {
		width, height = 80, 24
	}
	rows := l.rows
	if !last {
		rows = fit(rows, height-2)
	}
	var b bytes.Buffer
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.drawn)
	}
	l.line(&b, fmt.Sprintf("[+] %s %d/%d", l.verb, l.finished(), len(l.rows)), "")
	label := l.widest(rows)
	now := time.Now()
	for _, r := range rows {
		l.row(&b, r, label, width, now)
	}
	b.WriteString("\x1b[J")
	l.drawn = len(rows) + 1
	_, _ = l.out.Write(b.Bytes())
}

// fit drops finished rows from the top until at most n are left.
func fit(rows []*row, n int) []*row {
	n = max(n, 1)
	over := len(rows) - n
	if over <= 0 {
		return rows
	}
	var out []*row
	for _, r := range rows {
		if over > 0 && r.finished {
			over--
			continue
		}
		out = append(out, r)
	}
	return out[:min(n, len(out))]
}

func (l *live) finished() int {
	n := 0
	for _, r := range l.rows {
		if r.finished {
			n++
		}
	}
	return n
}

func (l *live) widest(rows []*row) int {
	n := 0
	for _, r := range rows {
		n = max(n, runewidth.StringWidth(r.text()))
	}
	return n
}

func (l *live) row(b *bytes.Buffer, r *row, label, width int, now time.Time) {
	mark, colour := spinner[l.turn%len(spinner)], "36"
	end := now
	switch {
	case r.err != nil || r.word == "Error":
		mark, colour, end = "✘", "31", r.done
	case r.finished:
		mark, colour, end = "✔", "32", r.done
	}
	text := r.text()
	text += strings.Repeat(" ", max(0, label-runewidth.StringWidth(text)))
	text = fmt.Sprintf(" %s %s %6.1fs", mark, text, max(0, end.Sub(r.begun).Seconds()))
	l.line(b, runewidth.Truncate(text, width-1, "…"), colour)
}

func (l *live) line(b *bytes.Buffer, text, colour string) {
	if colour != "" && l.colour {
		text = "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
	b.WriteString(text)
	b.WriteString("\x1b[K\n")
}
