package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/logs"
	"github.com/davit-run/davit/logs/console"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/logs/mux"
	"github.com/davit-run/davit/reconcile"
)

// A stream is the output of several containers on this terminal, in order of
// time, each line headed by the container's name.
type stream struct {
	session  *session
	mux      *mux.Mux
	out, err *console.Printer // the same one where both go to the same place

	held   sync.Mutex // while something else has the terminal
	filter atomic.Pointer[filter]
}

// A filter is what a person wants to see of a stream.
type filter struct {
	text   string            // as it was asked for
	labels map[string]string // nil: lines with the text; else text is a service, and these have one each
}

// newFilter reads what was typed: the name of a service, which the labels of
// lines have, or text.
func newFilter(text string, labels map[string]string) *filter {
	if text == "" {
		return nil
	}
	f := &filter{text: text}
	for _, service := range labels {
		if service == text {
			f.labels = labels
		}
	}
	return f
}

// shows says whether a line passes.
func (f *filter) shows(l logs.Line) bool {
	switch {
	case f == nil:
		return true
	case f.labels != nil:
		return f.labels[l.Source] == f.text
	}
	return l.Stream == logs.Notice || strings.Contains(strings.ToLower(string(l.Text)), strings.ToLower(f.text))
}

// hold keeps lines back until release; those before are on the terminal.
func (st *stream) hold() {
	st.held.Lock()
	_, _ = st.out.Flush(), st.err.Flush() // who prints next is told of errors
}

// release lets lines through again.
func (st *stream) release() { st.held.Unlock() }

// A look is how a stream's lines look.
type look struct {
	noColor, noPrefix, timestamps, json bool
	grep                                *regexp.Regexp // nil: all lines
	joined                              bool           // both streams to standard output
}

func (s *session) newStream(l look) *stream {
	o := console.Options{NoPrefix: l.noPrefix, Timestamps: l.timestamps, JSON: l.json, Grep: l.grep, Services: s.serviceNames()}
	st := &stream{session: s, mux: mux.New()}
	o.Color, o.Terminal = !l.noColor && s.colour(s.out), isTerminal(s.out)
	o.Columns = columns(s.out)
	st.out = console.New(s.out, o)
	st.err = st.out
	if !l.json && !l.joined && !sameFile(s.out, s.globals.err) { // an object names its stream
		o.Color, o.Terminal = !l.noColor && s.colour(s.globals.err), isTerminal(s.globals.err)
		o.Columns = columns(s.globals.err)
		st.err = console.New(s.globals.err, o)
	}
	return st
}

// sameFile says whether two files are one: lines for both then go through one
// printer, so that they stay in order.
func sameFile(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func (s *session) serviceNames() []string {
	if s.project != nil {
		return s.project.ServiceNames()
	}
	var out []string
	for _, a := range s.actual.Containers {
		out = append(out, a.Service())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// label is what a container is called in front of its lines: web-1.
func (s *session) label(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, s.name+"-"), s.name+"_")
}

// name makes room for the containers' names.
func (st *stream) name(labels ...string) {
	st.out.Name(labels...)
	st.err.Name(labels...)
}

// add follows a container's output. The source it returns ends once finish was
// called and everything was read. The error of a container that is no longer there
// is fs.ErrNotExist.
func (st *stream) add(id, name string, o journal.ReadOptions) (*source, error) {
	dir := st.session.engine.LogDir(st.session.name, id)
	// Its directory is there as long as the container is: of one that was removed
	// just now nothing is made again.
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	r, err := journal.OpenHistory(dir, o)
	if err != nil {
		return nil, err
	}
	src := newSource(r)
	label := st.session.label(name)
	st.name(label)
	st.mux.Add(label, src)
	return src, nil
}

// copy prints lines until every source has ended and finish was called.
func (st *stream) copy(ctx context.Context) error {
	for {
		l, err := st.mux.Next(ctx)
		if errors.Is(err, io.EOF) {
			return st.close()
		}
		if err != nil {
			return errors.Join(err, st.close())
		}
		to := st.out
		if l.Stream == logs.Stderr {
			to = st.err
		}
		if err := st.print(to, l); err != nil {
			return err
		}
	}
}

// print prints a line that passes the filter, once the terminal is free.
func (st *stream) print(to *console.Printer, l logs.Line) error {
	st.held.Lock()
	defer st.held.Unlock()
	if !st.filter.Load().shows(l) {
		return nil
	}
	return to.Print(l)
}

func (st *stream) close() error {
	err := errors.Join(st.mux.Close(), st.out.Close())
	if st.err != st.out {
		err = errors.Join(err, st.err.Close())
	}
	return err
}

// A source is a container's log with words of davit's own between its lines.
type source struct {
	*journal.History
	words chan string
	held  string // a word that comes after the lines that are there

	mu   sync.Mutex
	wake chan<- struct{}
}

func newSource(h *journal.History) *source {
	return &source{History: h, words: make(chan string, 64)}
}

// say puts a line of davit's behind what the container has written by now.
func (s *source) say(word string) {
	select {
	case s.words <- word:
	default: // nobody reads: the terminal is stopped
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake != nil {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// finish ends the source behind what is there already and, when word is not
// empty, a last line that says so.
func (s *source) finish(word string) {
	if word != "" {
		s.say(word)
	}
	s.History.Finish()
}

// Notify has c told of new lines and of new words.
func (s *source) Notify(c chan<- struct{}) {
	s.mu.Lock()
	s.wake = c
	s.mu.Unlock()
	s.History.Notify(c)
}

// Poll returns the next line of the log and, behind those that were written
// before it was said, the next word.
func (s *source) Poll() (logs.Line, bool, error) {
	s.listen()
	l, ok, err := s.History.Poll()
	if ok || err != nil && !errors.Is(err, io.EOF) {
		return l, ok, err
	}
	if err != nil {
		s.listen() // said while the end was found
	}
	if s.held == "" {
		return l, false, err
	}
	l = logs.Line{Stream: logs.Notice, Time: time.Now(), Text: []byte(s.held)}
	s.held = ""
	return l, true, nil
}

func (s *source) listen() {
	if s.held != "" {
		return
	}
	select {
	case s.held = <-s.words:
	default:
	}
}

// exitWord tells how a container ended.
func exitWord(s engine.State) string { return "exited with code " + strconv.Itoa(s.ExitCode) }

// attachable says whether up shows a service's output: attach: false in the
// files hides it unless it is asked for.
func (s *session) attachable(o upOptions, services []string, c reconcile.Container) bool {
	if slices.Contains(o.noAttach, c.Service) {
		return false
	}
	if len(o.attach) > 0 {
		return slices.Contains(o.attach, c.Service)
	}
	if len(services) > 0 && !o.attachDeps && !slices.Contains(services, c.Service) {
		return false
	}
	svc := s.project.Services[c.Service]
	return svc == nil || svc.Attach == nil || *svc.Attach
}
