package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
)

// lines is a source that never waits.
type lines struct {
	at   time.Time
	left int
}

func (l *lines) Poll() (logs.Line, bool, error) {
	if l.left == 0 {
		return logs.Line{}, false, io.EOF
	}
	l.left--
	l.at = l.at.Add(time.Millisecond)
	return logs.Line{Time: l.at, Text: []byte("a line")}, true, nil
}

func (*lines) Notify(chan<- struct{}) {}
func (*lines) Close() error           { return nil }

// Lines of many containers put in order of time.
func BenchmarkMux(b *testing.B) {
	for _, n := range []int{1, 10, 50, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := New()
			for i := range n {
				m.Add("", &lines{at: time.Unix(int64(i), 0), left: b.N/n + 1})
			}
			m.Finish()
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := m.Next(context.Background()); err != nil && !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
			}
		})
	}
}
