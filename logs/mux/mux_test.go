package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
)

// script is a source that gives the lines it is told to.
type script struct {
	mu     sync.Mutex
	lines  []logs.Line
	ended  error
	notify chan<- struct{}
	asked  int // lines given out
	closed bool
}

func (s *script) Poll() (logs.Line, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) == 0 {
		return logs.Line{}, false, s.ended
	}
	l := s.lines[0]
	s.lines = s.lines[1:]
	s.asked++
	return l, true, nil
}

func (s *script) Notify(c chan<- struct{}) {
	s.mu.Lock()
	s.notify = c
	s.mu.Unlock()
}

func (s *script) Close() error { s.closed = true; return nil }

func (s *script) print(at time.Time, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, logs.Line{Time: at, Text: []byte(text)})
	s.tell()
}

func (s *script) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	s.tell()
}

func (s *script) tell() {
	if s.notify != nil {
		select {
		case s.notify <- struct{}{}:
		default:
		}
	}
}

// next returns what m has next as "source text".
func next(t *testing.T, m *Mux) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := m.Next(ctx)
	if err != nil {
		return err.Error()
	}
	return l.Source + " " + string(l.Text)
}

func expect(t *testing.T, m *Mux, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := next(t, m); got != w {
			t.Fatalf("got %q, want %q", got, w)
		}
	}
}

func TestLinesComeInOrderOfTime(t *testing.T) {
	m, start := New(), time.Now().Add(-time.Hour)
	var want []string
	srcs := make([]*script, 7)
	for i := range srcs {
		srcs[i] = &script{ended: io.EOF}
	}
	for i := range 700 {
		text := fmt.Sprint(i)
		srcs[i*i%7].print(start.Add(time.Duration(i)*time.Second), text)
		want = append(want, fmt.Sprintf("s%d %s", i*i%7, text))
	}
	for i, s := range srcs {
		m.Add(fmt.Sprint("s", i), s)
	}
	m.Finish()
	expect(t, m, append(want, "EOF")...)
	for i, s := range srcs {
		if !s.closed {
			t.Errorf("source %d was left open", i)
		}
	}
}

func TestSourcesMayComeAndGoWhileFollowing(t *testing.T) {
	m := New()
	defer m.Close()
	a, b := &script{}, &script{}
	m.Add("web-1", a)
	a.print(time.Now(), "up")
	expect(t, m, "web-1 up")
	got := make(chan string)
	go func() { got <- next(t, m) }()
	m.Add("web-2", b)
	b.print(time.Now(), "scaled")
	if s := <-got; s != "web-2 scaled" {
		t.Fatalf("got %q", s)
	}
	a.end(io.EOF)
	b.print(time.Now(), "still here")
	expect(t, m, "web-2 still here")
	c := &script{}
	c.print(time.Now(), "recreated")
	m.Add("web-1", c)
	expect(t, m, "web-1 recreated")
	b.end(io.EOF)
	c.end(io.EOF)
	m.Finish()
	expect(t, m, "EOF")
}

// late is a source whose next line comes right after it was found to have none.
type late struct {
	script
	then func()
}

func (l *late) Poll() (logs.Line, bool, error) {
	line, ok, err := l.script.Poll()
	if !ok && err == nil {
		l.then()
	}
	return line, ok, err
}

// The lines are of the future: no clock decides between them.
func TestLineThatBecomesVisibleLateKeepsItsPlace(t *testing.T) {
	m := New()
	defer m.Close()
	a, b, start, printed := &script{}, &late{}, time.Now().Add(time.Hour), 0
	b.then = func() {
		if printed == 5 {
			b.end(io.EOF)
			return
		}
		b.print(start.Add(time.Duration(printed)*time.Second-time.Microsecond), fmt.Sprint(printed, " first"))
		printed++
	}
	for i := range 5 {
		a.print(start.Add(time.Duration(i)*time.Second), fmt.Sprint(i, " second"))
	}
	m.Add("a", a)
	m.Add("b", b)
	for i := range 5 {
		expect(t, m, fmt.Sprintf("b %d first", i), fmt.Sprintf("a %d second", i))
	}
}

func TestSlowConsumerReadsNoFurtherThanTheNextLine(t *testing.T) {
	m := New()
	defer m.Close()
	s := &script{}
	for i := range 1000 {
		s.print(time.Now().Add(-time.Minute), fmt.Sprint(i))
	}
	m.Add("s", s)
	expect(t, m, "s 0", "s 1")
	if s.asked > 2 {
		t.Fatalf("%d lines were read for two", s.asked)
	}
	for i := 2; i < 1000; i++ {
		expect(t, m, fmt.Sprint("s ", i))
	}
}

func TestErrorOfOneSourceDoesNotEndTheOthers(t *testing.T) {
	m := New()
	bad, good := &script{ended: errors.New("input/output error")}, &script{ended: io.EOF}
	good.print(time.Now(), "fine")
	m.Add("bad", bad)
	m.Add("good", good)
	m.Finish()
	got := []string{next(t, m), next(t, m), next(t, m)}
	all := strings.Join(got, "; ")
	if got[2] != "EOF" || !strings.Contains(all, "good fine") || !strings.Contains(all, "read log of bad: input/output error") {
		t.Fatalf("got %q", got)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	m := New()
	defer m.Close()
	m.Add("s", &script{})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := m.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
