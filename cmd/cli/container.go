package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"
)

// standalone is the project of containers that belong to none.
const standalone = "davit"

func newContainer(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "container COMMAND",
		Short: "Manage single containers, of any project or of none",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		newContainerRun(g, true), newContainerRun(g, false), newContainerLs(g), newContainerRm(g), newContainerLogs(g),
		newContainerExec(g), newContainerStop(g, false), newContainerStop(g, true), newContainerKill(g), newContainerWait(g), newContainerAttach(g),
	)
	c.AddCommand(newContainerLooks(g)...)
	c.AddCommand(newInspect(g))
	engineVerb := func(use, short string, do func(context.Context, *session, engine.Snapshot) error) {
		c.AddCommand(&cobra.Command{Use: use + " CONTAINER [CONTAINER...]", Short: short, Args: cobra.MinimumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return eachContainer(c.Context(), g, args, do) }})
	}
	engineVerb("start", "Start stopped containers", func(ctx context.Context, s *session, c engine.Snapshot) error {
		return s.engine.StartContainer(ctx, c.Project, c.ID)
	})
	engineVerb("pause", "Freeze the processes of containers", func(ctx context.Context, s *session, c engine.Snapshot) error {
		return s.engine.PauseContainer(ctx, c.Project, c.ID)
	})
	engineVerb("unpause", "Let frozen containers go on", func(ctx context.Context, s *session, c engine.Snapshot) error {
		return s.engine.UnpauseContainer(ctx, c.Project, c.ID)
	})
	return c
}

// eachContainer does something to each of the named containers, and prints the
// names of those it was done to, as docker does.
func eachContainer(ctx context.Context, g *globals, words []string, do func(context.Context, *session, engine.Snapshot) error) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	var errs []error
	for _, w := range words {
		c, err := s.byName(ctx, w)
		if err == nil {
			s.name = c.Project
			err = do(ctx, s, c)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(g.out, w)
	}
	return errors.Join(errs...)
}

func newContainerKill(g *globals) *cobra.Command {
	var signal string
	c := &cobra.Command{Use: "kill [OPTIONS] CONTAINER [CONTAINER...]", Short: "Kill running containers", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, args []string) error {
		return eachContainer(c.Context(), g, args, func(ctx context.Context, s *session, c engine.Snapshot) error {
			return s.engine.KillContainer(ctx, c.Project, c.ID, signal)
		})
	}
	c.Flags().StringVarP(&signal, "signal", "s", "KILL", "Signal to send to the container")
	return c
}

// newContainerStop is stop, or restart, which starts the containers again.
func newContainerStop(g *globals, again bool) *cobra.Command {
	var timeout int
	var signal string
	c := &cobra.Command{Use: "stop [OPTIONS] CONTAINER [CONTAINER...]", Short: "Stop running containers", Args: cobra.MinimumNArgs(1)}
	if again {
		c.Use, c.Short = "restart [OPTIONS] CONTAINER [CONTAINER...]", "Restart containers"
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		limit := seconds(timeout, c.Flags().Changed("timeout"))
		return eachContainer(c.Context(), g, args, func(ctx context.Context, s *session, c engine.Snapshot) error {
			err := s.engine.StopContainer(ctx, c.Project, c.ID, engine.Stop{Signal: signal, Timeout: limit, Restart: again})
			if err == nil && again {
				err = s.engine.StartContainer(ctx, c.Project, c.ID)
			}
			return err
		})
	}
	c.Flags().IntVarP(&timeout, "timeout", "t", 0, "Seconds to wait before killing the container")
	c.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	return c
}

func newContainerRm(g *globals) *cobra.Command {
	var force, volumes bool
	c := &cobra.Command{Use: "rm [OPTIONS] CONTAINER [CONTAINER...]", Short: "Remove containers", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, args []string) error {
		return eachContainer(c.Context(), g, args, func(ctx context.Context, s *session, c engine.Snapshot) error {
			alive := reconcile.ActualContainer{Container: c.Container, State: c.State}.Alive()
			if alive && !force {
				return fmt.Errorf("remove container %s: it is running; stop it first, or use -f", c.Name)
			}
			if err := s.engine.RemoveContainer(ctx, c.Project, c.ID, volumes); err != nil {
				return err
			}
			return s.leave(ctx, c.Project)
		})
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of a running container")
	c.Flags().BoolVarP(&volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	return c
}

// leave takes the network of containers without a project away with the last
// of them.
func (s *session) leave(ctx context.Context, project string) error {
	if project != standalone {
		return nil
	}
	left, err := s.engine.Containers(ctx, project)
	if err != nil || len(left) > 0 {
		return err
	}
	if err := s.host.RemoveNetwork(ctx, standalone, standaloneNetwork); err != nil {
		return err
	}
	return s.engine.Shutdown(ctx, standalone)
}

func newContainerWait(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "wait CONTAINER [CONTAINER...]", Short: "Block until containers stop, then print their exit codes", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.close()
			for _, w := range args {
				found, err := s.byName(c.Context(), w)
				if err != nil {
					return err
				}
				st, err := s.engine.Wait(c.Context(), found.Project, found.ID)
				if err != nil {
					return err
				}
				fmt.Fprintln(g.out, st.ExitCode)
			}
			return nil
		},
	}
}

type containerLsOptions struct {
	all, quiet, noTrunc bool
	format              string
	filter              []string
}

func newContainerLs(g *globals) *cobra.Command {
	var o containerLsOptions
	c := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list", "ps"}, Short: "List containers of all projects", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runContainerLs(c.Context(), g, o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display container IDs")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.StringArrayVarP(&o.filter, "filter", "f", nil, "Filter output: name=, id=, status=, label=KEY[=VALUE], ancestor=IMAGE")
	return c
}

func runContainerLs(ctx context.Context, g *globals, o containerLsOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	projects, err := s.engine.Projects(ctx)
	if err != nil {
		return err
	}
	t := render.Table{Heads: render.ContainerHeads, Columns: []render.Column{
		{Head: "CONTAINER ID", Key: "ID"}, {Head: "IMAGE", Key: "Image"}, {Head: "COMMAND", Key: "Command"}, {Head: "CREATED", Key: "RunningFor"},
		{Head: "STATUS", Key: "Status"}, {Head: "PORTS", Key: "Ports"}, {Head: "NAMES", Key: "Names"},
	}}
	var found []engine.Snapshot
	for _, p := range projects {
		all, err := s.engine.Containers(ctx, p)
		if err != nil {
			return err
		}
		for _, c := range all {
			alive := reconcile.ActualContainer{Container: c.Container, State: c.State}.Alive()
			ok, err := o.takes(c)
			if err != nil {
				return err
			}
			if ok && (o.all || alive || slices.ContainsFunc(o.filter, func(f string) bool { return strings.HasPrefix(f, "status=") })) {
				found = append(found, c)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b engine.Snapshot) int { return b.Created.Compare(a.Created) })
	for _, c := range found {
		row := render.Container(c, o.noTrunc, time.Now())
		if o.quiet {
			fmt.Fprintln(g.out, row["ID"])
		}
		t.Rows = append(t.Rows, row)
	}
	if o.quiet {
		return nil
	}
	return t.Print(g.out, o.format)
}

// takes holds a container against --filter.
func (o containerLsOptions) takes(c engine.Snapshot) (bool, error) {
	for _, f := range o.filter {
		key, v, _ := strings.Cut(f, "=")
		ok := false
		switch key {
		case "name":
			ok = strings.Contains(c.Name, v)
		case "id":
			ok = strings.HasPrefix(c.ID, v)
		case "status":
			ok = string(c.State.Status) == v
		case "ancestor":
			ok = c.Spec.Image == v || c.ImageID == v
		case "label":
			ok = labelMatches(c.Spec.Labels, v)
		default:
			return false, fmt.Errorf("unknown filter %q: use name, id, status, label or ancestor", key)
		}
		if !ok {
			return false, nil
		}
	}
	return true, nil
}

func newContainerLogs(g *globals) *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use: "logs [OPTIONS] CONTAINER", Short: "Fetch the logs of a container", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runContainerLogs(c.Context(), g, o, args[0]) },
	}
	f := c.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "Follow log output")
	f.StringVar(&o.since, "since", "", "Show logs since timestamp or relative (e.g. 42m for 42 minutes)")
	f.StringVar(&o.until, "until", "", "Show logs before a timestamp or relative (e.g. 42m for 42 minutes)")
	f.StringVarP(&o.tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	f.BoolVarP(&o.timestamps, "timestamps", "t", false, "Show timestamps")
	return c
}

func runContainerLogs(ctx context.Context, g *globals, o logsOptions, word string) error {
	read, err := o.read(time.Now())
	if err != nil {
		return err
	}
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	c, err := s.byName(ctx, word)
	if err != nil {
		return err
	}
	s.name, o.noPrefix = c.Project, true
	st := s.newStream(o.look)
	src, err := st.add(c.ID, c.Name, read)
	if err != nil {
		return err
	}
	st.mux.Finish()
	a := reconcile.ActualContainer{Container: c.Container, State: c.State}
	switch {
	case o.follow && a.Alive():
		go func() {
			_, _ = s.engine.Wait(ctx, c.Project, c.ID)
			src.finish("")
		}()
	case o.follow:
		src.finish("")
	}
	return st.copy(ctx)
}

func newContainerExec(g *globals) *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use: "exec [OPTIONS] CONTAINER COMMAND [ARG...]", Short: "Execute a command in a running container", Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runContainerExec(c.Context(), g, o, args[0], args[1:])
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: run command in the background")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.BoolVarP(&o.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	f.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to the command")
	f.StringVarP(&o.user, "user", "u", "", "Username or UID")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	return c
}

func runContainerExec(ctx context.Context, g *globals, o execOptions, word string, args []string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	c, err := s.byName(ctx, word)
	if err != nil {
		return err
	}
	if c.State.Status != engine.Running {
		return fmt.Errorf("container %s is not running", c.Name)
	}
	if o.tty && o.interactive && !isTerminal(g.in) {
		return errors.New("the input is not a terminal: leave -t out")
	}
	layout := s.engine.Layout()
	return become(engine.ExecCall{
		Data: layout.Data, Run: layout.Run, Project: c.Project, ID: c.ID, Detach: o.detach, Stdin: o.interactive && !o.detach,
		Exec: engine.Exec{Args: args, Env: variables(o.env), WorkingDir: o.workdir, User: o.user, Privileged: o.privileged, TTY: o.tty && !o.detach},
	})
}

func newContainerAttach(g *globals) *cobra.Command {
	var o attachOptions
	c := &cobra.Command{
		Use: "attach [OPTIONS] CONTAINER", Short: "Attach local standard input, output, and error streams to a running container", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.close()
			found, err := s.byName(c.Context(), args[0])
			if err != nil {
				return err
			}
			s.name = found.Project
			return s.attach(c.Context(), o, reconcile.ActualContainer{Container: found.Container, State: found.State}, journal.ReadOptions{Tail: 0, Follow: true})
		},
	}
	c.Flags().StringVar(&o.keys, "detach-keys", "", "Override the key sequence for detaching a container")
	c.Flags().BoolVar(&o.noStdin, "no-stdin", false, "Do not attach STDIN")
	c.Flags().BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy all received signals to the process")
	return c
}
