package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/local"
)

// Version is davit's own; the build sets it.
var Version = "dev"

// ComposeVersion is the docker compose whose commands, flags and formats this
// davit speaks.
const ComposeVersion = "5.7.0"

// A globals is what stands before the command: which project, which host, how
// to print.
type globals struct {
	files, profiles, envFiles, insecure, allow []string
	name, dir, workdir                         string
	ansi, progress, root                       string
	parallel                                   int
	dryRun, allResources, compatibility        bool
	noANSI, verbose, version                   bool

	isolated bool       // up beside other copies of the project
	placing  bool       // host ports are chosen: the project is being brought up
	copy     *isolation // nil: the project is no copy beside others

	in       *os.File
	out, err *os.File
	status   *os.File // progress goes there: err, or out when the environment says so

	// onSecond says that a second Ctrl-C is somebody else's business.
	onSecond atomic.Bool
}

// An exit is how a command ends when 0 or 1 will not do.
type exit struct {
	code int
	err  error // nil: nothing to say
}

// Error is what the exit is about.
func (e exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

// Unwrap is what the exit is about.
func (e exit) Unwrap() error { return e.err }

// interrupted is the status after Ctrl-C or SIGTERM.
const interrupted = 130

// Main runs the command in args, the program's name left out, and returns its
// exit status.
func Main(args []string) int {
	if len(args) > 0 && args[0] == "compose" {
		args = args[1:] // as docker's plugin is called
	}
	g := &globals{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	ctx, stop := g.interruptible()
	defer stop()
	root := newRoot(g)
	root.SetArgs(args)
	root.SetOut(g.out)
	root.SetErr(g.err)
	return g.finish(ctx, root.ExecuteContext(ctx), args)
}

// interruptible returns a context that ends with the first SIGINT or SIGTERM;
// the second one ends the process, unless somebody else looks after it.
func (g *globals) interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		if !g.onSecond.Load() {
			os.Exit(interrupted)
		}
	}()
	return ctx, cancel
}

// finish prints what went wrong and turns it into an exit status.
func (g *globals) finish(ctx context.Context, err error, args []string) int {
	var e exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e) && e.err == nil:
		return e.code
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return interrupted
	case errors.Is(err, local.ErrNotRoot):
		err = fmt.Errorf("%w: type\n  %s", err, sudo(args))
	}
	if g.progress == render.JSON {
		render.MistakeJSON(g.err, err)
	} else {
		render.Mistake(g.err, err)
	}
	if errors.As(err, &e) {
		return e.code
	}
	return 1
}

// sudo is the command as the superuser would have to type it.
func sudo(args []string) string {
	words := []string{"sudo", program()}
	for _, a := range args {
		words = append(words, shellQuote(a))
	}
	return strings.Join(words, " ")
}

func program() string { return filepath.Base(os.Args[0]) }

// shellQuote writes a word so that a shell reads it back.
func shellQuote(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func newRoot(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:              "davit [OPTIONS] COMMAND",
		Short:            "Run the services of a compose file on this machine, without a daemon",
		Long:             rootLong,
		Args:             cobra.ArbitraryArgs,
		TraverseChildren: true,
		SilenceErrors:    true,
		SilenceUsage:     true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return g.settle()
		},
		RunE: func(c *cobra.Command, args []string) error {
			if g.version {
				return runVersion(g.out, versionOptions{})
			}
			if err := c.Help(); err != nil || len(args) == 0 {
				return err
			}
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				return fmt.Errorf("unknown command: %q; did you mean %s?", args[0], near[0])
			}
			return fmt.Errorf("unknown command: %q", args[0])
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	g.flags(root)
	root.AddCommand(commands(g)...)
	return root
}

const rootLong = `davit runs the services of a compose file on this machine: it speaks docker
compose's commands, flags and files, and needs neither Docker nor a daemon.

Exit status: 0 when done; 1 for any error; 130 after Ctrl-C or SIGTERM; run,
exec and up --exit-code-from pass on the status of the program they ran.`

func (g *globals) flags(root *cobra.Command) {
	f := root.Flags()
	f.SetInterspersed(false)
	f.StringArrayVarP(&g.files, "file", "f", nil, "Compose configuration files")
	f.StringArrayVar(&g.allow, "allow-remote", nil, "Allow compose files from this address, or from all below it (oci://HOST/REPOSITORY, a git URL)")
	f.StringArrayVar(&g.envFiles, "env-file", nil, "Specify an alternate environment file")
	f.StringArrayVar(&g.profiles, "profile", nil, "Specify a profile to enable")
	f.StringVarP(&g.name, "project-name", "p", "", "Project name")
	f.StringVar(&g.dir, "project-directory", "", "Specify an alternate working directory\n(default: the path of the, first specified, Compose file)")
	f.StringVar(&g.workdir, "workdir", "", "DEPRECATED! USE --project-directory INSTEAD")
	f.StringVar(&g.ansi, "ansi", "auto", `Control when to print ANSI control characters ("never"|"always"|"auto")`)
	f.StringVar(&g.progress, "progress", os.Getenv("COMPOSE_PROGRESS"), "Set type of progress output (auto, tty, plain, json, quiet)")
	f.IntVar(&g.parallel, "parallel", -1, "Control max parallelism, -1 for unlimited")
	f.BoolVar(&g.allResources, "all-resources", false, "Include all resources, even those not used by services")
	f.BoolVar(&g.compatibility, "compatibility", false, "Run compose in backward compatibility mode")
	f.StringVar(&g.root, "root", "", "Keep everything below this folder (default: $DAVIT_ROOT, else /var/lib/davit and /run/davit)")
	f.StringArrayVar(&g.insecure, "insecure-registry", nil, "Use insecure registry to pull Compose OCI artifacts")
	f.BoolVar(&g.noANSI, "no-ansi", false, "Do not print ANSI control characters (DEPRECATED)")
	f.BoolVar(&g.verbose, "verbose", false, "Show more output")
	f.BoolVarP(&g.version, "version", "v", false, "Show the version")
	for _, name := range []string{"workdir", "insecure-registry", "no-ansi", "verbose", "version"} {
		_ = f.MarkHidden(name)
	}
	root.PersistentFlags().BoolVar(&g.dryRun, "dry-run", false, "Execute command in dry run mode")
}

// settle makes the flags and the environment agree before a command runs.
func (g *globals) settle() error {
	if g.dir == "" {
		g.dir = g.workdir
	}
	if v := os.Getenv("COMPOSE_ANSI"); v != "" && g.ansi == "auto" {
		g.ansi = v
	}
	if g.noANSI {
		g.ansi = "never"
	}
	switch g.ansi {
	case "auto", "never", "always":
	default:
		return fmt.Errorf("--ansi %q: use one of never, always, auto", g.ansi)
	}
	if g.parallel < 1 {
		g.parallel = envInt("COMPOSE_PARALLEL_LIMIT", -1)
	}
	g.status = g.err
	if envBool("COMPOSE_STATUS_STDOUT", false) {
		g.status = g.out
	}
	return nil
}

// colour says whether ANSI sequences may go to out.
func (g *globals) colour(out *os.File) bool {
	switch g.ansi {
	case "always":
		return true
	case "never":
		return false
	}
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(out.Fd()))
}

// say prints a line for a person, beside a command's result.
func (g *globals) say(format string, args ...any) {
	if g.progress != render.Quiet {
		fmt.Fprintf(io.Writer(g.err), format+"\n", args...)
	}
}
