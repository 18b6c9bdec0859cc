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
	drawn []int // columns of the lines on the screen that are ours
	turn  int
}

type row struct {
	label, word string
	begun, done time.Time
	finished    bool
	err         error
	detail      string // how far it is
}

// text is the object and what is done to it, in at most so many columns: how far
// it is goes first, then what kind of object it is, then its name's beginning.
func (r *row) text(columns int) string {
	text := r.label + " " + r.word
	if !r.finished && r.detail != "" && runewidth.StringWidth(text+" "+r.detail) <= columns {
		return text + " " + r.detail
	}
	if runewidth.StringWidth(text) <= columns {
		return text
	}
	_, text, _ = strings.Cut(text, " ")
	if over := runewidth.StringWidth(text) - columns; over > 0 {
		text = runewidth.TruncateLeft(text, over+1, "…")
	}
	return text
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
	width, height := l.size()
	rows := l.rows
	if !last {
		rows = fit(rows, height-2)
	}
	var b bytes.Buffer
	if up := l.above(width); up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	l.drawn = l.drawn[:0]
	l.line(&b, runewidth.Truncate(fmt.Sprintf("[+] %s %d/%d", l.verb, l.finished(), len(l.rows)), width-1, "…"), "")
	columns := max(width-1-rest, 1)
	label := l.widest(rows, columns)
	now := time.Now()
	for _, r := range rows {
		l.row(&b, r.text(columns), r, label, now, last)
	}
	b.WriteString("\x1b[J")
	_, _ = l.out.Write(b.Bytes())
}

// rest is what a row has beside its text: the mark before it and the time.
const rest = 3 + 8

func (l *live) size() (width, height int) {
	width, height, err := term.GetSize(int(l.out.Fd()))
	if err != nil || width == 0 || height == 0 { // nobody has said
		return 80, 24
	}
	return max(width, rest+2), height
}

// above is how many lines of the screen have our last frame: one each, or more
// where the terminal has become narrower and wraps them.
func (l *live) above(width int) int {
	n := 0
	for _, columns := range l.drawn {
		n += max(1, (columns+width-1)/width)
	}
	return n
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

func (l *live) widest(rows []*row, columns int) int {
	n := 0
	for _, r := range rows {
		n = max(n, runewidth.StringWidth(r.text(columns)))
	}
	return n
}

func (l *live) row(b *bytes.Buffer, text string, r *row, label int, now time.Time, last bool) {
	mark, colour := spinner[l.turn%len(spinner)], "36"
	end := now
	switch {
	case r.err != nil || r.word == "Error":
		mark, colour, end = "✘", "31", r.done
	case r.finished:
		mark, colour, end = "✔", "32", r.done
	case last:
		mark = "…" // it goes on, and nothing turns here any more
	}
	text += strings.Repeat(" ", max(0, label-runewidth.StringWidth(text)))
	l.line(b, fmt.Sprintf(" %s %s %6.1fs", mark, text, max(0, end.Sub(r.begun).Seconds())), colour)
}

func (l *live) line(b *bytes.Buffer, text, colour string) {
	l.drawn = append(l.drawn, runewidth.StringWidth(text))
	if colour != "" && l.colour {
		text = "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
	b.WriteString(text)
	b.WriteString("\x1b[K\n")
}
