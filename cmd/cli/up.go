package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/apply"
	"github.com/davit-run/davit/reconcile/watch"
)

// upOptions are the flags of up; create, run and scale use some of them.
type upOptions struct {
	createOptions
	detach, wait, noDeps, noStart, recreateDeps, renew bool
	waitTimeout                                        int
	abortOnExit, abortOnFailure                        bool
	exitCodeFrom                                       string
	attach, noAttach                                   []string
	attachDeps                                         bool
	noColor, noPrefix, timestamps                      bool
	menu, watch                                        bool
	timeout                                            int
	timeoutSet                                         bool
}

// createOptions are the flags that up and create share.
type createOptions struct {
	build, noBuild, quietBuild, forceRecreate, noRecreate bool
	removeOrphans, quietPull, yes, newVolumes             bool
	pull                                                  string
	scale                                                 []string
}

func (o *createOptions) bind(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.build, "build", false, "Build images before starting containers")
	f.BoolVar(&o.noBuild, "no-build", false, "Don't build an image, even if it's policy")
	f.BoolVar(&o.forceRecreate, "force-recreate", false, "Recreate containers even if their configuration and image haven't changed")
	f.BoolVar(&o.noRecreate, "no-recreate", false, "If containers already exist, don't recreate them. Incompatible with --force-recreate.")
	f.BoolVar(&o.removeOrphans, "remove-orphans", envBool("COMPOSE_REMOVE_ORPHANS", false), "Remove containers for services not defined in the Compose file")
	f.BoolVar(&o.quietPull, "quiet-pull", false, "Pull without printing progress information")
	f.StringVar(&o.pull, "pull", "policy", `Pull image before running ("always"|"missing"|"never")`)
	f.StringArrayVar(&o.scale, "scale", nil, "Scale SERVICE to NUM instances. Overrides the scale setting in the Compose file if present.")
	f.BoolVar(&o.newVolumes, "new-volumes", false, "Make empty volumes even where Docker on this host has data under their names")
	f.BoolVarP(&o.yes, "yes", "y", false, `Assume "yes" as answer to all prompts and run non-interactively`)
}

func (o createOptions) check() error {
	if o.build && o.noBuild {
		return errors.New("--build and --no-build are incompatible")
	}
	if o.forceRecreate && o.noRecreate {
		return errors.New("--force-recreate and --no-recreate are incompatible")
	}
	switch o.pull {
	case "policy", "always", "missing", "never", "build":
		return nil
	}
	return fmt.Errorf("--pull %q: use one of always, missing, never", o.pull)
}

func (o createOptions) plan(services []string) reconcile.Options {
	return reconcile.Options{
		Services: services, ForceRecreate: o.forceRecreate, NoRecreate: o.noRecreate, RemoveOrphans: o.removeOrphans,
		IgnoreOrphans: envBool("COMPOSE_IGNORE_ORPHANS", false), Build: o.build, NoBuild: o.noBuild, Pull: o.pull, Now: time.Now(),
	}
}

// scales reads SERVICE=NUM words.
func scales(words []string) (map[string]int, error) {
	out := map[string]int{}
	for _, w := range words {
		name, num, ok := strings.Cut(w, "=")
		n, err := strconv.Atoi(num)
		if !ok || err != nil || n < 0 {
			return nil, fmt.Errorf("scale %q: write SERVICE=NUM, such as web=3", w)
		}
		out[name] = n
	}
	return out, nil
}

func newUp(g *globals) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up [OPTIONS] [SERVICE...]",
		Short: "Create and start containers",
		RunE: func(c *cobra.Command, args []string) error {
			o.timeoutSet = c.Flags().Changed("timeout")
			if !c.Flags().Changed("menu") {
				o.menu = envBool("COMPOSE_MENU", true)
			}
			return runUp(c.Context(), g, o, args)
		},
	}
	o.bind(c)
	f := c.Flags()
	f.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: Run containers in the background")
	f.BoolVar(&o.wait, "wait", false, "Wait for services to be running|healthy. Implies detached mode.")
	f.IntVar(&o.waitTimeout, "wait-timeout", 0, "Maximum duration in seconds to wait for the project to be running|healthy")
	f.BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	f.BoolVar(&o.noStart, "no-start", false, "Don't start the services after creating them")
	f.BoolVar(&o.recreateDeps, "always-recreate-deps", false, "Recreate dependent containers. Incompatible with --no-recreate.")
	f.BoolVarP(&o.renew, "renew-anon-volumes", "V", false, "Recreate anonymous volumes instead of retrieving data from the previous containers")
	f.BoolVar(&o.abortOnExit, "abort-on-container-exit", false, "Stops all containers if any container was stopped. Incompatible with -d")
	f.BoolVar(&o.abortOnFailure, "abort-on-container-failure", false, "Stops all containers if any container exited with failure. Incompatible with -d")
	f.StringVar(&o.exitCodeFrom, "exit-code-from", "", "Return the exit code of the selected service container. Implies --abort-on-container-exit")
	f.StringArrayVar(&o.attach, "attach", nil, "Restrict attaching to the specified services. Incompatible with --attach-dependencies.")
	f.StringArrayVar(&o.noAttach, "no-attach", nil, "Do not attach (stream logs) to the specified services")
	f.BoolVar(&o.attachDeps, "attach-dependencies", false, "Automatically attach to log output of dependent services")
	f.BoolVar(&o.noColor, "no-color", false, "Produce monochrome output")
	f.BoolVar(&o.noPrefix, "no-log-prefix", false, "Don't print prefix in logs")
	f.BoolVar(&o.timestamps, "timestamps", false, "Show timestamps")
	f.BoolVar(&o.quietBuild, "quiet-build", false, "Suppress the build output")
	f.BoolVar(&o.menu, "menu", envBool("COMPOSE_MENU", false), "Enable interactive shortcuts when running attached. Incompatible with --detach.")
	f.BoolVarP(&o.watch, "watch", "w", false, "Watch source code and rebuild/refresh containers when files are updated.")
	f.BoolVar(&g.isolated, "isolated", false, "Bring up a copy of its own beside others of this project: its name is the worktree's, taken host ports are moved")
	f.IntVarP(&o.timeout, "timeout", "t", 0, "Use this timeout in seconds for container shutdown when attached or when containers are already running")
	return c
}

// settle refuses flags that contradict each other, in docker compose's words.
func (o *upOptions) settle() error {
	if err := o.check(); err != nil {
		return err
	}
	if o.exitCodeFrom != "" {
		o.abortOnExit = true
	}
	switch {
	case o.recreateDeps && o.noRecreate:
		return errors.New("--always-recreate-deps and --no-recreate are incompatible")
	case o.recreateDeps && o.forceRecreate:
		return errors.New("cannot combine --force-recreate and --always-recreate-deps")
	case (o.detach || o.wait) && (o.abortOnExit || o.abortOnFailure):
		return errors.New("--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure or --exit-code-from")
	case o.detach && (o.attachDeps || len(o.attach) > 0):
		return errors.New("--detach cannot be combined with --attach or --attach-dependencies")
	case o.attachDeps && len(o.attach) > 0:
		return errors.New("cannot combine --attach and --attach-dependencies")
	case o.abortOnExit && o.abortOnFailure:
		return errors.New("--abort-on-container-failure cannot be combined with --abort-on-container-exit")
	}
	o.detach = o.detach || o.wait
	return nil
}

func (o upOptions) plan(services []string) reconcile.Options {
	p := o.createOptions.plan(services)
	p.NoDeps, p.NoStart, p.RecreateDeps, p.RenewAnonymous = o.noDeps, o.noStart, o.recreateDeps, o.renew
	p.Timeout = seconds(o.timeout, o.timeoutSet)
	return p
}

// runUp brings the services up, and stays attached to their output unless it
// is told not to.
func runUp(ctx context.Context, g *globals, o upOptions, services []string) error {
	if err := o.settle(); err != nil {
		return err
	}
	scale, err := scales(o.scale)
	if err != nil {
		return err
	}
	g.placing = true
	s, err := g.need(ctx, services, scale)
	if err != nil {
		return err
	}
	defer s.close()
	s.quietPull, s.quietBuild = o.quietPull, o.quietBuild
	if o.exitCodeFrom != "" {
		if _, err := s.project.Service(o.exitCodeFrom); err != nil {
			return err
		}
	}
	if o.watch {
		rules, err := watch.Rules(s.project, services)
		if err != nil {
			return err
		}
		s.fillFirst(rules)
	}
	s.host.quiet, s.host.newVolumes = o.quietPull, o.newVolumes
	if err := s.provide(ctx, services, o.noDeps); err != nil {
		return err
	}
	steps, err := s.prepare(ctx, o.plan(services), o.yes)
	if err != nil {
		return err
	}
	s.sayReasons(steps)
	if o.detach || o.noStart || s.dryRun {
		return s.upDetached(ctx, o, services, steps)
	}
	return s.upAttached(ctx, o, services, steps)
}

// sayReasons tells, once for a service, which field of it has it made anew.
func (s *session) sayReasons(steps []reconcile.Step) {
	if s.dryRun || s.progress == render.JSON {
		return // the plan says it; and lines of JSON stay so
	}
	told := map[string]bool{}
	for _, step := range steps {
		do, ok := step.Do.(reconcile.CreateContainer)
		if line := do.Service + ": recreate, " + step.Why; ok && do.Replaces != "" && !told[line] {
			told[line] = true
			s.say("%s", line)
		}
	}
}

// upDetached applies the plan and, with --wait, waits until everything is up.
func (s *session) upDetached(ctx context.Context, o upOptions, services []string, steps []reconcile.Step) error {
	show, err := s.progressFor("up")
	if err != nil {
		return err
	}
	if s.dryRun {
		return render.Plan(s.out, steps)
	}
	for _, c := range reconcile.Unchanged(s.desired, s.actual, ready(o.plan(services))) {
		show.Report(running(c.Name))
	}
	if err := s.run(ctx, steps, show.Report); err != nil {
		show.Close()
		return err
	}
	s.release()
	if o.wait && !o.noStart {
		err = s.awaitUp(ctx, services, o.noDeps, o.waitTimeout, show)
	}
	show.Close()
	if err == nil && o.watch && !o.noStart {
		return s.watchBehind(ctx, services)
	}
	return err
}

// progressFor is the progress of a verb; a dry run shows none.
func (s *session) progressFor(verb string) (render.Progress, error) {
	mode := s.progress
	if s.dryRun {
		mode = render.Quiet
	}
	return render.NewProgress(mode, verb, s.status, s.colour(s.status))
}

func ready(o reconcile.Options) reconcile.Options {
	o.ImagesReady = true
	return o
}

// prepare locks the project, looks at the host, gets the images, and plans.
func (s *session) prepare(ctx context.Context, o reconcile.Options, yes bool) ([]reconcile.Step, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	if err := s.observe(ctx); err != nil {
		return nil, err
	}
	if missing := reconcile.Missing(s.desired, s.actual, o); len(missing) > 0 {
		return nil, errors.Join(missing...)
	}
	s.warnOrphans(o)
	s.warnOptions()
	if s.dryRun {
		return reconcile.Plan(s.desired, s.actual, o), nil
	}
	if err := s.checkPorts(reconcile.Plan(s.desired, s.actual, o)); err != nil {
		return nil, err
	}
	if images := reconcile.Images(s.desired, s.actual, o); len(images) > 0 {
		if err := s.applyImages(ctx, "up", images); err != nil {
			return nil, err
		}
		if err := s.observe(ctx); err != nil {
			return nil, err
		}
	}
	return s.consented(ctx, ready(o), yes)
}

// warnOrphans tells of containers whose services are gone, as long as nobody
// said what to do with them.
func (s *session) warnOrphans(o reconcile.Options) {
	if o.RemoveOrphans || o.IgnoreOrphans {
		return
	}
	var names []string
	for _, a := range reconcile.Orphans(s.desired, s.actual) {
		names = append(names, a.Name)
	}
	if len(names) > 0 {
		s.say("davit: warning: Found orphan containers (%s) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.", strings.Join(names, ", "))
	}
}

// consented plans, asks what the plan needs a person's word for, and plans
// again around what was declined.
func (s *session) consented(ctx context.Context, o reconcile.Options, yes bool) ([]reconcile.Step, error) {
	for {
		steps := reconcile.Plan(s.desired, s.actual, o)
		declined := false
		for _, step := range steps {
			if step.Consent == "" || yes {
				continue
			}
			agreed, err := s.ask(ctx, step.Consent)
			if err != nil {
				return nil, err
			}
			if v, ok := step.Do.(reconcile.RemoveVolume); ok && !agreed {
				o.KeepVolumes = append(o.KeepVolumes, v.Name)
				declined = true
			}
		}
		if !declined {
			return steps, nil
		}
		yes = true // everything was asked once; what was declined is planned around
	}
}

// awaitUp waits until the containers of the services are up.
func (s *session) awaitUp(ctx context.Context, services []string, noDeps bool, timeout int, show render.Progress) error {
	if err := s.observe(ctx); err != nil {
		return err
	}
	wanted := s.selected(services, noDeps)
	var all []apply.Target
	for _, a := range s.actual.Containers {
		if !a.OneOff() && wanted[a.Name] {
			all = append(all, apply.Target{Name: a.Name, ID: a.ID, Service: a.Service()})
			show.Report(event(a.Name, "Waiting", false, nil))
		}
	}
	limit, cancel := deadline(ctx, timeout)
	defer cancel()
	err := apply.Wait(limit, s.host, s.name, all, apply.Up, func(t apply.Target) {
		word := "Healthy"
		if st, err := s.engine.State(ctx, s.name, t.ID); err == nil && st.FinishedAt.After(st.StartedAt) {
			word = "Exited"
		}
		show.Report(event(t.Name, word, true, nil))
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("application not healthy after %ds", timeout)
	}
	return err
}

// selected are the names of the containers that up was asked to bring up.
func (s *session) selected(services []string, noDeps bool) map[string]bool {
	out := map[string]bool{}
	for _, c := range reconcile.Wanted(s.desired, reconcile.Options{Services: services, NoDeps: noDeps}) {
		out[c.Name] = true
	}
	return out
}

// ask puts a question to the person at the terminal, or to what is piped in.
// Without an answer it is no: nobody's data is given up unasked.
func (s *session) ask(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(s.err, "%s (y/N) ", question)
	answer := make(chan string, 1)
	go func() { answer <- readLine(s.in) }()
	select {
	case a := <-answer:
		if a == "" && !isTerminal(s.in) {
			fmt.Fprintln(s.err, "no: no one is there to answer")
		}
		a = strings.ToLower(strings.TrimSpace(a))
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// readLine reads up to the next newline, a byte at a time so that nothing that
// follows is lost.
func readLine(f *os.File) string {
	var line []byte
	for b := make([]byte, 1); ; {
		if n, err := f.Read(b); n == 0 || err != nil || b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}
