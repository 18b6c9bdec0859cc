package cli

import (
	"context"
	"strings"

	"golang.org/x/term"

	"github.com/davit-run/davit/reconcile"
)

// shortcuts are the keys of an attached up, and what they do.
var shortcuts = []struct{ key, does string }{
	{"w", "watch on and off"}, {"r", "restart a service"}, {"f", "filter by service or text"},
	{"d", "detach"}, {"h", "help"}, {"Ctrl-C", "stop"},
}

// keyHelp tells the keys on one line, or on one each where that is too long for
// the terminal.
func keyHelp(width int) string {
	var words []string
	for _, s := range shortcuts {
		words = append(words, s.key+" "+s.does)
	}
	line := "Keys: " + strings.Join(words, ", ")
	if len(line) < width {
		return line
	}
	return "Keys:\n  " + strings.Join(words, "\n  ")
}

// typed acts on a key.
func (a *attachment) typed(ctx context.Context, key byte) {
	if a.prompt != nil {
		if a.prompt.key(key) {
			a.dismiss()
		}
		return
	}
	switch key {
	case 'w':
		switch {
		case !a.applied || a.stopping:
		case a.endLookout():
			a.say("Watch disabled")
		default:
			a.lookOut(ctx)
		}
	case 'r':
		if a.applied && !a.stopping {
			a.inquire("Restart which service? ", a.serviceNames(), func(name string) { a.restartOne(ctx, name) })
		}
	case 'f':
		if a.applied {
			a.inquire("Show only (nothing: all): ", a.serviceNames(), a.show)
		}
	case 'd':
		a.detach(ctx)
	case 'h', '?':
		width, _, err := term.GetSize(int(a.out.Fd()))
		if err != nil {
			width = 80
		}
		a.say("%s", keyHelp(width))
	}
}

// inquire puts a question below the output, which waits until it is answered.
func (a *attachment) inquire(question string, words []string, answer func(string)) {
	a.stream.hold()
	a.prompt = newPrompt(a.globals.err, question, words, answer)
}

// dismiss takes a question away, answered or not.
func (a *attachment) dismiss() {
	if a.prompt != nil {
		a.prompt = nil
		a.stream.release()
	}
}

// show filters the output from now on.
func (a *attachment) show(text string) {
	labels := map[string]string{}
	for _, c := range a.wanted {
		labels[a.label(c.Name)] = c.Service
	}
	f := newFilter(text, labels)
	a.stream.filter.Store(f)
	switch {
	case f == nil:
		a.say("Showing everything")
	case f.labels != nil:
		a.say("Showing service %q only", text)
	default:
		a.say("Showing lines with %q only", text)
	}
}

// restartOne restarts a service beside what is shown, as another command would:
// up hears of its containers' end and start.
func (a *attachment) restartOne(ctx context.Context, name string) {
	if name == "" {
		return
	}
	if _, err := a.project.Service(name); err != nil {
		a.say("davit: %v", err)
		return
	}
	a.say("Restarting service %q", name)
	go func() {
		if err := a.restartApart(ctx, name); err != nil && ctx.Err() == nil {
			a.say("davit: restart %s: %v", name, err)
			return
		}
		a.say("Service %q restarted", name)
	}()
}

func (a *attachment) restartApart(ctx context.Context, name string) error {
	s, err := a.globals.need(ctx, a.services, nil)
	if err != nil {
		return err
	}
	defer s.close()
	return s.locked(ctx, func() error {
		o := reconcile.Options{Services: []string{name}, NoDeps: true}
		return s.run(ctx, reconcile.Restart(s.desired, s.actual, o), quietly)
	})
}
