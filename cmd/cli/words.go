package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/davit-run/davit/reconcile/apply"
)

func event(name, word string, done bool, err error) apply.Event {
	return apply.Event{Time: time.Now(), Kind: "Container", Name: name, Word: word, Done: done, Err: err}
}

// running tells of a container that is left as it is.
func running(name string) apply.Event { return event(name, "Running", true, nil) }

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// columns tells how wide a terminal is whenever it is asked; nil for a file that
// is none.
func columns(f *os.File) func() int {
	if !isTerminal(f) {
		return nil
	}
	return func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0
		}
		return width
	}
}

// deadline ends ctx after so many seconds; 0: never.
func deadline(ctx context.Context, seconds int) (context.Context, context.CancelFunc) {
	if seconds <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
}

// joinErrors is errors.Join for a failure and that of the clean-up after it.
func joinErrors(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return fmt.Errorf("%w; and then: %w", err, cleanup)
}
