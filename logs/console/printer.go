package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/mattn/go-runewidth"

	"github.com/davit-run/davit/logs"
)

// Options say how lines look.
type Options struct {
	Color      bool           // prefixes in colour; see Color
	NoPrefix   bool           // the container's text alone
	Timestamps bool           // the time of each line before it, as docker logs -t prints it
	Terminal   bool           // a person reads: unfinished lines are shown at once
	JSON       bool           // one object per line: source, stream, time, text
	Grep       *regexp.Regexp // lines that do not match are left out; notices stay
	Services   []string       // all of the project's, in its order: each gets a colour of its own
	// Columns tells how wide the terminal is: prefixes that would take more than
	// half of it are shortened. Nil, or 0 columns: nobody knows.
	Columns func() int
}

const (
	bufferSize = 64 << 10
	flushAfter = 5 * time.Millisecond // output is out so soon after the last line
	maxHeld    = 1 << 20              // bytes of an unfinished line that are kept back
	timeFormat = "2006-01-02T15:04:05.000000000Z07:00"
)

// A Printer writes lines as docker compose does: `web-1  | text`, the names
// padded to the longest. It buffers, and writes out when it is full or when
// nothing came for a moment. It may be used by several goroutines.
type Printer struct {
	o Options

	mu     sync.Mutex
	out    *bufio.Writer
	err    error // the first of the writer's
	timer  *time.Timer
	armed  bool
	colors palette
	width  int               // of the longest name
	wide   int               // columns of the terminal when looks were made
	looks  map[string]string // prefixes by source
	open   key               // the cursor stands in this line; zero: at a line's beginning
	held   map[key]piece     // lines that are kept back until they are whole
}

// key names a line that goes on: one per source and stream.
type key struct {
	source string
	stream logs.Stream
}

// A piece is the beginning of a line.
type piece struct {
	text []byte
	time time.Time // of its last part
}

// New returns a Printer that writes to w.
func New(w io.Writer, o Options) *Printer {
	return &Printer{
		o:      o,
		out:    bufio.NewWriterSize(w, bufferSize),
		colors: newPalette(o.Services),
		looks:  map[string]string{},
		held:   map[key]piece{},
	}
}

// Name makes room for the names of sources before their first line comes.
func (p *Printer) Name(sources ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range sources {
		p.widen(s)
	}
}

func (p *Printer) widen(source string) {
	if n := lipgloss.Width(source); n > p.width {
		p.width = n
		clear(p.looks)
	}
}

// Print prints a line, or the piece of one. The error is that of the writer, and
// stays.
func (p *Printer) Print(l logs.Line) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return p.err
	case l.Stream == logs.Notice && !p.o.JSON:
		p.notice(l)
	case p.hold(&l):
		return nil
	case p.o.Grep != nil && l.Stream != logs.Notice && !p.o.Grep.Match(l.Text):
		return nil
	case p.o.JSON:
		p.object(l)
	default:
		p.text(l)
	}
	p.flushSoon()
	return p.err
}

// hold keeps a piece back where lines have to be whole; false when l, completed
// by what was held, is to be printed.
func (p *Printer) hold(l *logs.Line) bool {
	if p.o.Terminal && !p.o.JSON && p.o.Grep == nil {
		return false
	}
	k := key{l.Source, l.Stream}
	kept, some := p.held[k]
	if l.Partial && len(kept.text)+len(l.Text) <= maxHeld {
		p.held[k] = piece{append(kept.text, l.Text...), l.Time}
		return true
	}
	if some {
		l.Text = append(kept.text, l.Text...)
		delete(p.held, k)
	}
	return false
}

// text prints a line for people.
func (p *Printer) text(l logs.Line) {
	k := key{l.Source, l.Stream}
	head := p.head(l)
	if p.open != k {
		p.endLine()
		p.write(head)
	}
	text := l.Text
	if !p.o.NoPrefix {
		if !l.Partial {
			text = bytes.TrimRight(text, "\r") // a terminal's line ends with \r\n
		}
		if p.o.Terminal && bytes.IndexByte(text, '\r') >= 0 {
			text = bytes.ReplaceAll(text, []byte("\r"), []byte("\r"+head))
		}
	}
	p.out.Write(text)
	if p.o.Color && !p.o.NoPrefix && bytes.IndexByte(text, '\x1b') >= 0 {
		p.write("\x1b[0m") // the container's colours end with its line
	}
	p.open = k
	if !l.Partial {
		p.out.WriteByte('\n')
		p.open = key{}
	}
}

// notice prints a word of davit's own: `web-1 restarted, exit 1`.
func (p *Printer) notice(l logs.Line) {
	p.endLine()
	name := l.Source
	if name != "" {
		p.widen(name)
		if p.o.Color {
			name = p.colors.of(service(l.Source)).Render(name)
		}
		name += " "
	}
	p.write(name)
	if p.o.Timestamps {
		p.write(stamp(l))
	}
	p.out.Write(l.Text)
	p.out.WriteByte('\n')
}

func (p *Printer) object(l logs.Line) {
	b, _ := json.Marshal(struct {
		Source string      `json:"source,omitempty"`
		Stream logs.Stream `json:"stream"`
		Time   time.Time   `json:"time"`
		Text   string      `json:"text"`
	}{l.Source, l.Stream, l.Time.UTC(), string(l.Text)})
	p.out.Write(b)
	p.out.WriteByte('\n')
}

// endLine leaves the line that the cursor stands in.
func (p *Printer) endLine() {
	if p.open != (key{}) {
		p.out.WriteByte('\n')
		p.open = key{}
	}
}

// head is what comes before a line's text.
func (p *Printer) head(l logs.Line) string {
	head := ""
	if !p.o.NoPrefix && l.Source != "" {
		head = p.prefix(l.Source)
	}
	if p.o.Timestamps {
		head += stamp(l)
	}
	return head
}

func stamp(l logs.Line) string { return l.Time.UTC().Format(timeFormat) + " " }

// bar parts a name from the text.
const bar = "  | "

func (p *Printer) prefix(source string) string {
	p.widen(source)
	if p.o.Columns != nil {
		if n := p.o.Columns(); n != p.wide {
			p.wide = n
			clear(p.looks)
		}
	}
	if s, ok := p.looks[source]; ok {
		return s
	}
	name, width := p.fit(source)
	s := name + strings.Repeat(" ", width-lipgloss.Width(name)) + bar
	if p.o.Color {
		s = p.colors.of(service(source)).Render(s)
	}
	p.looks[source] = s
	return s
}

// fit returns a name as it is shown, and how wide names are. Of one that is too
// long the end is kept, which has the replica's number.
func (p *Printer) fit(source string) (name string, width int) {
	room := max(p.wide/2-len(bar), 8)
	if p.wide <= 0 || p.width <= room {
		return source, p.width
	}
	if over := lipgloss.Width(source) - room; over > 0 {
		source = runewidth.TruncateLeft(source, over+1, "…")
	}
	return source, room
}

func (p *Printer) write(s string) { p.out.WriteString(s) }

func (p *Printer) flushSoon() {
	if p.armed {
		return
	}
	p.armed = true
	if p.timer == nil {
		p.timer = time.AfterFunc(flushAfter, func() { _ = p.Flush() })
		return
	}
	p.timer.Reset(flushAfter)
}

// Flush writes out what is buffered.
func (p *Printer) Flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flush()
}

func (p *Printer) flush() error {
	p.armed = false
	if err := p.out.Flush(); err != nil && p.err == nil {
		p.err = err
	}
	return p.err
}

// Close prints what was held back of unfinished lines and ends the last one. The
// writer stays open.
func (p *Printer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	for k, kept := range p.held {
		l := logs.Line{Source: k.source, Stream: k.stream, Time: kept.time, Text: kept.text}
		switch {
		case p.o.Grep != nil && !p.o.Grep.Match(l.Text):
		case p.o.JSON:
			p.object(l)
		default:
			p.text(l)
		}
	}
	clear(p.held)
	p.endLine()
	return p.flush()
}

// Lines is where lines come from; journal.Reader and mux.Mux are such.
type Lines interface {
	Next(ctx context.Context) (logs.Line, error)
}

// Copy prints all of the lines until their end (nil) or an error, which may be
// that of ctx.
func (p *Printer) Copy(ctx context.Context, from Lines) error {
	for {
		l, err := from.Next(ctx)
		if errors.Is(err, io.EOF) {
			return p.Flush()
		}
		if err != nil {
			return errors.Join(err, p.Flush())
		}
		if err := p.Print(l); err != nil {
			return err
		}
	}
}
