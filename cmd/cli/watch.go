package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/reconcile/watch"
)

type watchOptions struct {
	noUp, prune, quiet, stop, status, background bool
}

func newWatch(g *globals) *cobra.Command {
	var o watchOptions
	c := &cobra.Command{
		Use:   "watch [SERVICE...]",
		Short: "Watch build context for service and rebuild/refresh containers when files are updated",
		RunE: func(c *cobra.Command, args []string) error {
			return runWatch(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.noUp, "no-up", false, "Do not build & start services before watching")
	f.BoolVar(&o.prune, "prune", true, "Prune dangling images on rebuild")
	f.BoolVar(&o.quiet, "quiet", false, "hide build output")
	f.BoolVar(&o.stop, "stop", false, "End what watches this project")
	f.BoolVar(&o.status, "status", false, "Tell what is watched, and how it goes")
	f.BoolVar(&o.background, "background", false, "Watch as the background part of up -d --watch")
	_ = f.MarkHidden("background")
	return c
}

func runWatch(ctx context.Context, g *globals, o watchOptions, services []string) error {
	if o.stop || o.status {
		s, err := g.find(ctx, services)
		if err != nil {
			return err
		}
		defer s.close()
		if o.stop {
			return s.endWatch(ctx, true)
		}
		return s.watchStatus(ctx)
	}
	g.placing = !o.noUp
	s, err := g.need(ctx, services, nil)
	if err != nil {
		return err
	}
	defer s.close()
	rules, err := watch.Rules(s.project, services)
	if err != nil {
		return err
	}
	s.fillFirst(rules)
	if !o.noUp {
		if err := s.upForWatch(ctx, o, services); err != nil {
			return err
		}
	}
	if s.dryRun {
		return nil
	}
	w := &watching{session: s, o: o, services: services}
	return w.run(ctx)
}

// upForWatch brings up what is to be watched.
func (s *session) upForWatch(ctx context.Context, o watchOptions, services []string) error {
	up := upOptions{detach: true, createOptions: createOptions{pull: "policy"}}
	if o.quiet {
		s.progress = render.Quiet
	}
	steps, err := s.prepare(ctx, up.plan(services), false)
	if err != nil {
		return err
	}
	return s.upDetached(ctx, up, services, steps)
}

// A watching is a watcher of one project at work.
type watching struct {
	*session
	o        watchOptions
	services []string
	w        *watch.Watcher
	post     *watchPost
}

// run watches until ctx ends, somebody else ends it, or no container is left.
func (w *watching) run(ctx context.Context) error {
	rules, err := watch.Rules(w.project, w.services)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if w.w, err = watch.New(rules, func(text string) { w.say("davit: warning: %s", text) }); err != nil {
		return err
	}
	defer w.w.Close()
	if w.post, err = w.openPost(ctx, rules, func() { cancel(errEnded) }); err != nil {
		return err
	}
	defer w.post.close()
	for _, t := range w.w.Everything(true) {
		if _, err := w.sync(ctx, t, true); err != nil {
			w.failed(t.Service, err)
		}
	}
	w.say("Watch enabled")
	w.post.ready()
	go w.mind(ctx, cancel)
	w.w.Run(ctx, func(b watch.Batch) { w.batch(ctx, b) })
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errEnded), errors.Is(cause, errNothingLeft):
		w.say("Watch disabled: %v", cause)
		return nil
	}
	return ctx.Err()
}

var (
	errEnded       = errors.New("it was told to end")
	errNothingLeft = errors.New("no container is left")
)

// mind ends the watcher when the project is gone.
func (w *watching) mind(ctx context.Context, cancel func(error)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if all, err := w.engine.Containers(ctx, w.session.name); err == nil && len(all) == 0 {
			cancel(errNothingLeft)
			return
		}
	}
}

// failed tells of what went wrong with a service; the next change tries again.
func (w *watching) failed(service string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	w.say("davit: watch %s: %v", service, err)
	w.post.note(func(s *watchReport) { s.LastError = fmt.Sprintf("%s: %v", service, err) })
}

// batch carries out what a batch of changes means: the images of all services
// that need it are built in one go, the rest is done service by service.
func (w *watching) batch(ctx context.Context, b watch.Batch) {
	var rebuild []string
	for _, t := range b.Tasks {
		if t.Rebuild {
			rebuild = append(rebuild, t.Service)
		}
	}
	if len(rebuild) > 0 {
		if err := w.rebuild(ctx, rebuild); err != nil {
			w.failed(rebuild[0], err)
		}
	}
	files := 0
	for _, t := range b.Tasks {
		if t.Rebuild {
			continue
		}
		files += len(t.Files)
		if err := w.task(ctx, t, b.Since); err != nil {
			w.failed(t.Service, err)
		}
	}
	w.post.note(func(s *watchReport) {
		s.Batches++
		s.Files += files
		s.Last = time.Now()
	})
}

func (w *watching) task(ctx context.Context, t watch.Task, since time.Time) error {
	if len(t.Files) > 0 {
		if _, err := w.sync(ctx, t, false); err != nil {
			return err
		}
		w.say("Syncing service %q after %d changes were detected (%s)", t.Service, t.Changes, time.Since(since).Round(time.Millisecond))
	}
	for _, hook := range t.Exec {
		if err := w.execIn(ctx, t.Service, hook, io.Writer(w.globals.err)); err != nil {
			return err
		}
	}
	if !t.Restart {
		return nil
	}
	if err := w.restart(ctx, t.Service); err != nil {
		return err
	}
	w.say("service %q restarted (%s)", t.Service, time.Since(since).Round(time.Millisecond))
	return nil
}
