package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/progress/progressui"

	"github.com/davit-run/davit/engine/build/solver"
)

// Progress is one change of what is known of a build's steps.
type Progress = client.SolveStatus

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
	var b strings.Builder
	switch {
	case errors.As(err, &step):
		fmt.Fprintf(&b, "%s: %v", step.Name, step.Err)
		if tail := d.last(string(step.Vertex)); tail != "" {
			b.WriteString("\n  " + strings.ReplaceAll(tail, "\n", "\n  "))
		}
		b.WriteString(stepExcerpt(step))
	case len(errdefs.Sources(err)) > 0:
		b.WriteString(err.Error())
		for _, s := range errdefs.Sources(err) {
			b.WriteString(excerpt(s.Info, s.Ranges))
		}
	default:
		return err
	}
	return fmt.Errorf("%s%w", b.String(), silent{err})
}

// last is what a step printed in the end.
func (d *Display) last(vertex string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.TrimRight(strings.Join(d.tail[vertex], ""), "\n")
}

// stepExcerpt is the part of the Dockerfile that a step comes from.
func stepExcerpt(step *solver.StepError) string {
	var b strings.Builder
	for _, locs := range step.Source.GetLocations() {
		for _, l := range locs.Locations {
			if int(l.SourceIndex) < len(step.Source.Infos) {
				b.WriteString(excerpt(step.Source.Infos[l.SourceIndex], l.Ranges))
			}
		}
	}
	return b.String()
}

// excerpt is some lines of a file, each with its number.
func excerpt(info *pb.SourceInfo, ranges []*pb.Range) string {
	if info == nil || len(ranges) == 0 {
		return ""
	}
	var b strings.Builder
	lines := strings.Split(string(info.Data), "\n")
	from, to := int(ranges[0].Start.Line), int(ranges[len(ranges)-1].End.Line)
	fmt.Fprintf(&b, "\n%s:%d", info.Filename, from)
	for n := max(from, 1); n <= min(to, len(lines)); n++ {
		fmt.Fprintf(&b, "\n  %4d | %s", n, strings.TrimSuffix(lines[n-1], "\r"))
	}
	return b.String()
}

// silent carries an error along without adding to the text.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }
