package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/davit-run/davit/logs"
)

// slack is how much later than its time a line may become visible: a keeper
// stamps a line before it records it.
const slack = 4 * time.Millisecond

// A Source is one container's log; journal.Reader is one. Mux calls it from the
// goroutine that calls Next.
type Source interface {
	// Poll returns the next line, valid until the next call; ok is false when
	// there is none now, and the error is io.EOF when there will be none.
	Poll() (line logs.Line, ok bool, err error)
	// Notify has c told, without waiting, whenever Poll may have more.
	Notify(c chan<- struct{})
	// Close gives the source up.
	Close() error
}

// A Mux is one stream of lines out of many. It reads no further than the next
// line of each source, so a slow reader of it costs neither memory nor lines.
type Mux struct {
	wake chan struct{}

	mu    sync.Mutex
	added []*source
	full  bool // no source will be added

	ready   heap      // sources with a line at hand
	empty   []*source // sources without one
	given   *source   // whose line Next returned last
	total   int       // sources so far
	horizon time.Time // what is older than this is at hand, from every source
}

type source struct {
	Source
	name  string
	order int // of adding, which decides between lines of the same time
	line  logs.Line
}

// New returns a Mux without sources.
func New() *Mux { return &Mux{wake: make(chan struct{}, 1)} }

// Add adds a source whose lines get the given name; an empty one leaves theirs.
// It may be called at any time from any goroutine. The Mux closes the source at
// its end.
func (m *Mux) Add(name string, s Source) {
	m.mu.Lock()
	m.added = append(m.added, &source{Source: s, name: name})
	m.mu.Unlock()
	s.Notify(m.wake)
	m.poke()
}

// Finish says that no source will be added: Next then gives io.EOF once all have
// ended.
func (m *Mux) Finish() {
	m.mu.Lock()
	m.full = true
	m.mu.Unlock()
	m.poke()
}

func (m *Mux) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Next returns the next line of all, in order of time, and waits for it until
// ctx ends. The line is valid until the next call. An error of a source ends
// that source alone; Next may be called again.
func (m *Mux) Next(ctx context.Context) (logs.Line, error) {
	if s := m.given; s != nil {
		m.given = nil
		if err := m.poll(s); err != nil {
			return logs.Line{}, err
		}
	}
	for {
		if m.ripe() && !m.news() {
			return m.give(), nil
		}
		if err := m.look(); err != nil {
			return logs.Line{}, err
		}
		if m.ripe() {
			return m.give(), nil
		}
		if err := m.wait(ctx); err != nil {
			return logs.Line{}, err
		}
	}
}

// ripe tells whether the oldest line at hand is the oldest of all: a source
// without one may still come with an older line for a moment.
func (m *Mux) ripe() bool {
	return len(m.ready) > 0 && (len(m.empty) == 0 || !m.ready[0].line.Time.After(m.horizon))
}

// news tells whether a source was added since the last look.
func (m *Mux) news() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.added) > 0
}

// look asks every source that has no line at hand for one.
func (m *Mux) look() error {
	m.mu.Lock()
	for _, s := range m.added {
		m.total++
		s.order = m.total
		m.empty = append(m.empty, s)
	}
	m.added = nil
	m.mu.Unlock()
	seen := time.Now().Add(-slack)
	ask := m.empty
	m.empty = nil
	for i, s := range ask {
		if err := m.poll(s); err != nil {
			m.empty = append(m.empty, ask[i+1:]...)
			return err
		}
	}
	m.horizon = seen
	return nil
}

// poll takes a source's next line to hand.
func (m *Mux) poll(s *source) error {
	line, ok, err := s.Poll()
	switch {
	case err != nil:
		err = errors.Join(ended(s.name, err), s.Close())
		return err
	case !ok:
		m.empty = append(m.empty, s)
	default:
		s.line = line
		if s.name != "" {
			s.line.Source = s.name
		}
		m.ready.push(s)
	}
	return nil
}

func ended(name string, err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("read log of %s: %w", name, err)
}

func (m *Mux) give() logs.Line {
	s := m.ready.pop()
	m.given = s
	return s.line
}

// wait waits for news, or until the line at hand is old enough to be the next.
func (m *Mux) wait(ctx context.Context) error {
	if len(m.ready) == 0 && len(m.empty) == 0 && m.ended() {
		return io.EOF
	}
	var old <-chan time.Time
	if len(m.ready) > 0 {
		ripe := min(max(m.ready[0].line.Time.Sub(m.horizon), time.Millisecond), slack)
		t := time.NewTimer(ripe)
		defer t.Stop()
		old = t.C
	}
	select {
	case <-m.wake:
	case <-old:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (m *Mux) ended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full && len(m.added) == 0
}

// Close closes every source that has not ended. No call of Next may be under
// way.
func (m *Mux) Close() error {
	m.Finish()
	m.mu.Lock()
	rest := slices.Concat(m.added, m.empty, m.ready)
	m.added = nil
	m.mu.Unlock()
	if m.given != nil {
		rest = append(rest, m.given)
	}
	m.empty, m.ready, m.given = nil, nil, nil
	var errs []error
	for _, s := range rest {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
