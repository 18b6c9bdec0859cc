package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/davit-run/davit/logs"
)

// A History reads a container's log and, before it, those of the containers
// whose place it took.
type History struct {
	*Reader             // the container's own log; Finish and Notify are about it
	before  []*Reader   // oldest first; the first is being read
	said    []logs.Line // to be handed out first
	some    bool        // a line of the container before was handed out
}

// OpenHistory is Open with o.Past honoured.
func OpenHistory(dir string, o ReadOptions) (*History, error) {
	r, err := Open(dir, o)
	if err != nil {
		return nil, err
	}
	h := &History{Reader: r}
	if o.Past {
		if err := h.openPast(o); err != nil {
			h.Close()
			return nil, fmt.Errorf("read logs before %s: %w", dir, err)
		}
	}
	return h, nil
}

// openPast opens the older logs, youngest first, for as long as they are wanted.
func (h *History) openPast(o ReadOptions) error {
	numbers, err := past(h.dir)
	if err != nil {
		return err
	}
	o.Follow = false
	o.Tail = min(o.Tail, h.short)
	for i := len(numbers) - 1; i >= 0 && o.Tail != 0; i-- {
		r, err := Open(pastDir(h.dir, numbers[i]), o)
		if errors.Is(err, os.ErrNotExist) {
			return nil // dropped, or handed on, since it was listed
		}
		if err != nil {
			return err
		}
		h.before = append([]*Reader{r}, h.before...)
		o.Tail = min(o.Tail, r.short)
		if i == 0 && numbers[0] > 1 && o.Since.IsZero() && len(r.gens) > 0 {
			h.tell(r.gens[0].head.created, fmt.Sprintf("older lines were dropped: the logs of %d earlier containers", numbers[0]-1))
		}
	}
	return nil
}

func (h *History) tell(at int64, text string) {
	h.said = append(h.said, logs.Line{Stream: logs.Notice, Time: timeOf(at), Text: []byte(text)})
}

// Poll is Reader's: the older logs come first, with a mark behind each.
func (h *History) Poll() (line logs.Line, ok bool, err error) {
	for {
		if len(h.said) > 0 {
			line, h.said = h.said[0], h.said[1:]
			return line, true, nil
		}
		if len(h.before) == 0 {
			return h.Reader.Poll()
		}
		line, ok, err = h.before[0].Poll()
		if !errors.Is(err, io.EOF) {
			h.some = h.some || ok
			return line, ok, err
		}
		h.leave()
	}
}

// Next is Reader's, over all of the logs.
func (h *History) Next(ctx context.Context) (logs.Line, error) { return next(ctx, h, h.Reader) }

// leave goes on to the next log.
func (h *History) leave() {
	old := h.before[0]
	h.before = h.before[1:]
	next := h.Reader
	if len(h.before) > 0 {
		next = h.before[0]
	}
	if h.some && len(next.gens) > 0 {
		h.tell(next.gens[0].head.created, "recreated")
	}
	h.some = false
	old.Close()
}

// Close gives up all of it.
func (h *History) Close() error {
	var errs []error
	for _, r := range h.before {
		errs = append(errs, r.Close())
	}
	h.before = nil
	return errors.Join(append(errs, h.Reader.Close())...)
}
