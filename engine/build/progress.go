package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"

	"github.com/davit-run/davit/engine/build/solver"
)

// A Display shows the progress of builds as BuildKit does.
type Display struct {
	updates chan *client.SolveStatus
	done    chan struct{}

	mu   sync.Mutex
	open bool
	tail map[string][]string // the last lines of each step, for the error
}

// tailLines is how many of a failing step's last lines are told.
const tailLines = 30

// NewDisplay shows builds on w: mode is auto, tty, plain, quiet, or json (one
// object a line).
func NewDisplay(w io.Writer, mode string) (*Display, error) {
	if mode == "json" {
		mode = string(progressui.RawJSONMode)
	}
	d, err := progressui.NewDisplay(w, progressui.DisplayMode(mode))
	if err != nil {
		return nil, fmt.Errorf("build progress: %w", err)
	}
	s := &Display{updates: make(chan *client.SolveStatus, 64), done: make(chan struct{}), open: true, tail: make(map[string][]string)}
	go func() {
		defer close(s.done)
		// Not the caller's context: what was reported before it ended is shown.
		_, _ = d.UpdateFrom(context.Background(), s.updates)
	}()
	return s, nil
}

// Report shows one change of progress.
func (d *Display) Report(s *client.SolveStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open {
		return
	}
	for _, l := range s.Logs {
		d.remember(string(l.Vertex), string(l.Data))
	}
	d.updates <- s
}

func (d *Display) remember(vertex, data string) {
	lines := append(d.tail[vertex], strings.SplitAfter(data, "\n")...)
	if n := len(lines) - tailLines; n > 0 {
		lines = lines[n:]
	}
	d.tail[vertex] = lines
}

// Close shows what is left to show.
func (d *Display) Close() {
	d.mu.Lock()
	if d.open {
		d.open = false
		close(d.updates)
	}
	d.mu.Unlock()
	<-d.done
}

// Explain turns the error of a build into what its author needs: the step, the
// last lines it printed, and the lines of the Dockerfile that asked for it.
func (d *Display) Explain(err error) error {
	var step *solver.StepError
	if !errors.As(err, &step) {
		return err
	}
	d.mu.Lock()
	tail := strings.TrimRight(strings.Join(d.tail[string(step.Vertex)], ""), "\n")
	d.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", step.Name, step.Err)
	if tail != "" {
		b.WriteString("\n  " + strings.ReplaceAll(tail, "\n", "\n  "))
	}
	b.WriteString(excerpt(step))
	return fmt.Errorf("%s%w", b.String(), silent{err})
}

// excerpt is the part of the Dockerfile that a step comes from.
func excerpt(step *solver.StepError) string {
	var b strings.Builder
	for _, locs := range step.Source.GetLocations() {
		for _, l := range locs.Locations {
			if int(l.SourceIndex) >= len(step.Source.Infos) || len(l.Ranges) == 0 {
				continue
			}
			info := step.Source.Infos[l.SourceIndex]
			lines := strings.Split(string(info.Data), "\n")
			from, to := int(l.Ranges[0].Start.Line), int(l.Ranges[len(l.Ranges)-1].End.Line)
			fmt.Fprintf(&b, "\n%s:%d", info.Filename, from)
			for n := max(from, 1); n <= min(to, len(lines)); n++ {
				fmt.Fprintf(&b, "\n  %4d | %s", n, lines[n-1])
			}
		}
	}
	return b.String()
}

// silent carries an error along without adding to the text.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }
