package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/logs/console"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"

	davitlogs "github.com/davit-run/davit/logs"
)

func splitComma(s string) []string { return strings.Split(s, ",") }

type attachOptions struct {
	keys              string
	index             int
	noStdin, sigProxy bool
}

func newAttach(g *globals) *cobra.Command {
	var o attachOptions
	c := &cobra.Command{
		Use:   "attach [OPTIONS] SERVICE",
		Short: "Attach local standard input, output, and error streams to a service's running container",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runAttach(c.Context(), g, o, args[0])
		},
	}
	f := c.Flags()
	f.StringVar(&o.keys, "detach-keys", "", "Override the key sequence for detaching from a container.")
	f.IntVar(&o.index, "index", 0, "index of the container if service has multiple replicas.")
	f.BoolVar(&o.noStdin, "no-stdin", false, "Do not attach STDIN")
	f.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy all received signals to the process")
	return c
}

// runAttach joins this terminal to a running container until that ends.
func runAttach(ctx context.Context, g *globals, o attachOptions, service string) error {
	s, err := g.glance(ctx, []string{service})
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	a, err := s.running(service, o.index)
	if err != nil {
		return err
	}
	return s.attach(ctx, o, a, journal.ReadOptions{Tail: 0, Follow: true})
}

// attach joins this terminal to a container that runs.
func (s *session) attach(ctx context.Context, o attachOptions, a reconcile.ActualContainer, read journal.ReadOptions) error {
	keys, err := detachKeys(o.keys)
	if err != nil {
		return err
	}
	f := &foreground{session: s, c: a, keys: keys, stdin: !o.noStdin && a.Spec.OpenStdin, proxy: o.sigProxy}
	if err := f.open(read); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() {
		st, err := f.engine.Wait(ctx, f.session.name, a.ID)
		f.ended <- ending{st, err}
	}()
	return f.stay(ctx)
}

// A foreground is one container joined to this terminal: its output here, what
// is typed there, and its exit status ours.
type foreground struct {
	*session
	c      reconcile.ActualContainer
	keys   []byte
	stdin  bool // pass input on
	once   bool // the end of input here is the end of input there
	proxy  bool // pass signals on
	quiet  bool
	reader *journal.Reader
	away   bool // the person left, and the container runs on
	ended  chan ending
	seen   chan struct{} // closed when all output is on the terminal
}

// An ending is how a container in the foreground ended, or why nobody knows.
type ending struct {
	state engine.State
	err   error
}

// open begins to read the container's output; it may not have started yet.
func (f *foreground) open(o journal.ReadOptions) error {
	dir := f.engine.LogDir(f.session.name, f.c.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f.ended, f.seen = make(chan ending, 2), make(chan struct{})
	var err error
	f.reader, err = journal.Open(dir, o)
	return err
}

// hold has the container's end awaited before it is started, so that however
// short its life is neither its status nor its output is missed.
func (f *foreground) hold(ctx context.Context) error {
	ready := make(chan struct{})
	var once sync.Once
	go func() {
		err := f.engine.Hold(ctx, f.session.name, f.c.ID, func() { once.Do(func() { close(ready) }) }, func(st engine.State) error {
			f.ended <- ending{state: st}
			select {
			case <-f.seen:
			case <-ctx.Done():
			}
			return nil
		})
		if err != nil {
			f.ended <- ending{err: err}
		}
	}()
	select {
	case <-ready:
		return nil
	case e := <-f.ended:
		return e.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stay copies both ways until the container ends or the person leaves.
func (f *foreground) stay(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer f.reader.Close()
	restore, left, err := f.join(ctx)
	if err != nil {
		return err
	}
	defer restore()
	if f.proxy {
		f.onSecond.Store(true)
		defer f.proxySignals(ctx)()
	}
	defer close(f.seen)
	printed := make(chan error, 1)
	go func() { printed <- f.print(ctx) }()
	select {
	case e := <-f.ended:
		f.reader.Finish()
		if err := errors.Join(e.err, <-printed); err != nil {
			return err
		}
		if e.state.ExitCode != 0 {
			return exit{code: e.state.ExitCode}
		}
	case <-left:
		f.away = true
		cancel()
		<-printed
	}
	return nil
}

// join passes what is typed on; left is closed when the person leaves.
func (f *foreground) join(ctx context.Context) (restore func(), left <-chan struct{}, err error) {
	nothing := func() {}
	if !f.stdin && !f.c.Spec.TTY {
		return nothing, nil, nil
	}
	in, err := f.input(ctx, f.c.ID, f.once && f.stdin, f.keys)
	if err != nil {
		// A command may be over before anybody could type.
		return nothing, nil, f.unlessEnded(ctx, err)
	}
	if in.to == nil {
		return nothing, nil, nil
	}
	restore = nothing
	if in.console && isTerminal(f.in) {
		if restore, err = in.raw(f.in); err != nil {
			return nothing, nil, err
		}
	}
	if f.stdin {
		go in.pass(f.in)
	}
	return restore, in.left, nil
}

func (f *foreground) unlessEnded(ctx context.Context, err error) error {
	if st, serr := f.engine.State(ctx, f.session.name, f.c.ID); serr != nil || st.Status != engine.Running {
		return nil
	}
	return err
}

// print copies the container's output, each stream to its own.
func (f *foreground) print(ctx context.Context) error {
	out := console.New(f.session.out, console.Options{NoPrefix: true, Terminal: true})
	errs := out
	if !sameFile(f.session.out, f.globals.err) {
		errs = console.New(f.globals.err, console.Options{NoPrefix: true, Terminal: true})
		defer errs.Close()
	}
	defer out.Close()
	for {
		l, err := f.reader.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		case f.quiet || l.Stream == davitlogs.Notice:
			continue
		}
		to := out
		if l.Stream == davitlogs.Stderr {
			to = errs
		}
		if err := to.Print(l); err != nil {
			return err
		}
	}
}

// proxied are the signals that are the container's when one is in the
// foreground.
var proxied = map[os.Signal]string{
	syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP", syscall.SIGQUIT: "SIGQUIT",
	syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2",
}

// proxySignals sends signals on to the container until stop is called.
func (f *foreground) proxySignals(ctx context.Context) (stop func()) {
	signals := make(chan os.Signal, 8)
	for s := range proxied {
		signal.Notify(signals, s)
	}
	go func() {
		for {
			select {
			case s := <-signals:
				_ = f.engine.KillContainer(ctx, f.session.name, f.c.ID, proxied[s])
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { signal.Stop(signals) }
}
