package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/reconcile"
)

type execOptions struct {
	detach, interactive, noTTY, tty, privileged bool
	index                                       int
	env                                         []string
	user, workdir                               string
}

func newExec(g *globals) *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec [OPTIONS] SERVICE COMMAND [ARGS...]",
		Short: "Execute a command in a running container",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runExec(c.Context(), g, o, args[0], args[1:])
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: Run command in the background")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.IntVar(&o.index, "index", 0, "Index of the container if service has multiple replicas")
	f.BoolVarP(&o.interactive, "interactive", "i", true, "Keep STDIN open even if not attached")
	f.BoolVarP(&o.noTTY, "no-tty", "T", !isTerminal(g.out), "Disable pseudo-TTY allocation. By default a TTY is allocated.")
	f.BoolVarP(&o.tty, "tty", "t", true, "Allocate a pseudo-TTY")
	f.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to the process")
	f.StringVarP(&o.user, "user", "u", "", "Run the command as this user")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Path to workdir directory for this command")
	_ = f.MarkHidden("interactive")
	_ = f.MarkHidden("tty")
	return c
}

// runExec becomes the process that runs a command in a container: davit-runtime
// takes this process's place, so that signals, terminal and exit status are
// its own.
func runExec(ctx context.Context, g *globals, o execOptions, service string, args []string) error {
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
	layout := s.engine.Layout()
	call := engine.ExecCall{
		Data: layout.Data, Run: layout.Run, Project: s.name, ID: a.ID, Detach: o.detach, Stdin: o.interactive && !o.detach,
		Exec: engine.Exec{
			Args: args, Env: variables(o.env), WorkingDir: o.workdir, User: o.user, Privileged: o.privileged,
			TTY: !o.noTTY && !o.detach && isTerminal(g.in),
		},
	}
	if s.dryRun {
		_, err := fmt.Fprintf(g.out, "exec %s in container %s\n", strings.Join(args, " "), a.Name)
		return err
	}
	return become(call)
}

// running is the running container of a service.
func (s *session) running(service string, index int) (reconcile.ActualContainer, error) {
	a, err := s.pick(service, index)
	if err != nil {
		return a, err
	}
	if a.State.Status != engine.Running {
		return a, fmt.Errorf("service %q is not running", service)
	}
	return a, nil
}

// variables completes KEY words with the values of this process's environment,
// and leaves out those that are not set there.
func variables(words []string) []string {
	var out []string
	for _, w := range words {
		if strings.Contains(w, "=") {
			out = append(out, w)
		} else if v, ok := os.LookupEnv(w); ok {
			out = append(out, w+"="+v)
		}
	}
	return out
}

// callFD is the descriptor on which davit-runtime expects its call.
const callFD = 3

// become replaces this process by davit-runtime exec. It only returns when
// that fails.
func become(call engine.ExecCall) error {
	program, err := wire.FindRuntime()
	if err != nil {
		return err
	}
	body, err := json.Marshal(call)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("exec", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("pass the command on: %w", err)
	}
	f := os.NewFile(uintptr(fd), "exec")
	if _, err := f.Write(body); err != nil {
		return fmt.Errorf("pass the command on: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	// Whatever Go keeps at descriptor 3 ends with this program.
	if fd == callFD {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	} else {
		err = unix.Dup3(fd, callFD, 0)
	}
	if err != nil {
		return fmt.Errorf("pass the command on: %w", err)
	}
	env := []string{"TERM=" + os.Getenv("TERM")}
	if err := unix.Exec(program, []string{wire.Program, "exec"}, env); err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	return nil
}
