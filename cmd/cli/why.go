package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

func newWhy(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "why SERVICE...",
		Short: "Tell why a service is not, or is no longer, as it should be",
		Long: `Tell, for each container of a service: how it ended and by which signal,
whether it ran out of memory, how often it was restarted, what its last health
check said, and what it waits for.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runWhy(c.Context(), g, args)
		},
	}
}

// runWhy explains the state of services.
func runWhy(ctx context.Context, g *globals, services []string) error {
	s, err := g.find(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	now := time.Now()
	for _, name := range services {
		list := s.containers([]string{name}, false)
		if len(list) == 0 {
			fmt.Fprintf(g.out, "%s: has no container; davit up makes it\n", name)
		}
		for _, a := range list {
			s.explain(g.out, a, now)
		}
		s.explainNeeds(g.out, name)
	}
	return nil
}

// explain tells what is known of one container.
func (s *session) explain(out io.Writer, a reconcile.ActualContainer, now time.Time) {
	st := a.State
	fmt.Fprintf(out, "%s: %s\n", s.label(a.Name), render.Status(st, now))
	say := func(format string, args ...any) { fmt.Fprintf(out, "  "+format+"\n", args...) }
	if word := lastExit(st); word != "" {
		say("last exit: %s", word)
	}
	if st.Error != "" {
		say("error: %s", st.Error)
	}
	if st.Restarts > 0 {
		say("restarts: %d, policy %s", st.Restarts, policy(a.Spec.Restart))
	}
	if st.Status == engine.Restarting {
		next := time.Until(st.FinishedAt.Add(time.Duration(st.RestartWait)))
		say("starts again in %s", max(0, next).Round(time.Second))
	}
	if h := st.Health; h != nil {
		say("health: %s, %d failures in a row", h.Status, h.Failing)
		if n := len(h.Log); n > 0 {
			p := h.Log[n-1]
			say("last probe: exit %d, %s ago%s", p.ExitCode, units.HumanDuration(max(0, now.Sub(p.End))), indented(p.Output))
		}
	}
}

// lastExit is how the last run ended; empty when none has.
func lastExit(st engine.State) string {
	if st.FinishedAt.IsZero() || st.Status == engine.Running || st.Status == engine.Created {
		return ""
	}
	word := fmt.Sprint(st.ExitCode)
	switch {
	case st.OOMKilled:
		word += ", out of memory: the kernel killed a process of it (mem_limit)"
	case st.ExitCode > 128 && st.ExitCode < 193:
		word += ", signal " + unix.SignalName(unix.Signal(st.ExitCode-128))
	case st.ExitCode == 126:
		word += ", the command cannot be executed"
	case st.ExitCode == 127:
		word += ", the command was not found"
	}
	if st.Asked {
		word += ", as asked"
	}
	return word
}

func policy(p engine.RestartPolicy) string {
	word := p.Mode
	if word == "" {
		word = "no"
	}
	if p.MaxRetries > 0 {
		word += fmt.Sprintf(":%d", p.MaxRetries)
	}
	if p.Unhealthy {
		word += ", and when unhealthy"
	}
	return word
}

func indented(output string) string {
	output = strings.TrimSpace(output)
	if output == "" {
		return ""
	}
	return "\n    " + strings.ReplaceAll(output, "\n", "\n    ")
}

// explainNeeds tells which of a service's dependencies are not as far as it
// needs them.
func (s *session) explainNeeds(out io.Writer, service string) {
	var deps []reconcile.Dependency
	for _, c := range s.desired.Containers {
		if c.Service == service {
			deps = c.After
		}
	}
	if deps == nil {
		for _, a := range s.containers([]string{service}, false) {
			deps = a.After()
		}
	}
	for _, d := range deps {
		if missing := s.unmet(d); missing != "" {
			fmt.Fprintf(out, "  waits for %s: %s\n", d.Service, missing)
		}
	}
}

// unmet says what a dependency still lacks; empty when nothing.
func (s *session) unmet(d reconcile.Dependency) string {
	list := s.containers([]string{d.Service}, false)
	if len(list) == 0 {
		return "it has no container"
	}
	for _, a := range list {
		if !reconcile.Met(a, d.Condition) {
			return fmt.Sprintf("%s is %s, wanted is %s", s.label(a.Name), render.Status(a.State, time.Now()), d.Condition)
		}
	}
	return ""
}
