package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

type statsOptions struct {
	aggregate, all, allProjects, noStream, noTrunc bool
	format                                         string
	services, named                                []string // named: ids of containers of any project; nil: those of services
}

func newStats(g *globals) *cobra.Command {
	var o statsOptions
	c := &cobra.Command{
		Use:   "stats [OPTIONS] [SERVICE]",
		Short: "Display a live stream of container(s) resource usage statistics",
		RunE: func(c *cobra.Command, args []string) error {
			o.services = args
			return runStats(c.Context(), g, o)
		},
	}
	f := c.Flags()
	f.BoolVar(&o.aggregate, "aggregate", false, "Show one line per project, summing the resource usage of its containers (only 'table' and 'json' formats)")
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.BoolVar(&o.allProjects, "all-projects", false, "Show the containers of all projects instead of the current one, with their project (only 'table' and 'json' formats)")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
	return c
}

// sampling is how long a row's share of the processors is measured over.
const sampling = time.Second

// runStats prints what containers use, every second until it is stopped.
func runStats(ctx context.Context, g *globals, o statsOptions) error {
	if (o.aggregate || o.allProjects) && o.format != "" && o.format != "table" && o.format != "json" {
		return errors.New("--aggregate and --all-projects know the formats table and json only")
	}
	s, err := g.statsSession(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	m := &statsMeter{session: s, o: o, before: map[string]sample{}}
	if _, err := m.measure(ctx); err != nil {
		return err
	}
	wait := sampling / 2
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = sampling
		table, err := m.measure(ctx)
		if err != nil {
			return err
		}
		if err := showStats(g, o, table); err != nil || o.noStream {
			return err
		}
	}
}

func (g *globals) statsSession(ctx context.Context, o statsOptions) (*session, error) {
	if o.allProjects {
		return g.open()
	}
	return g.find(ctx, o.services)
}

// showStats prints one round; on a terminal over the round before.
func showStats(g *globals, o statsOptions, t render.Table) error {
	if o.noStream || !isTerminal(g.out) || o.format == "json" {
		return t.Print(g.out, o.format)
	}
	var b bytes.Buffer
	if err := t.Print(&b, o.format); err != nil {
		return err
	}
	text := "\x1b[H" + strings.ReplaceAll(b.String(), "\n", "\x1b[K\n") + "\x1b[J"
	_, err := g.out.WriteString(text)
	return err
}

// A sample is what a container had used of the processors at a moment.
type sample struct {
	cpu time.Duration
	at  time.Time
}

// A statsMeter measures round after round.
type statsMeter struct {
	*session
	o      statsOptions
	before map[string]sample // by container id
}

func (m *statsMeter) measure(ctx context.Context) (render.Table, error) {
	t := render.Table{Columns: slices.Clone(render.StatsColumns)}
	projects := []string{m.session.name}
	if m.o.allProjects && m.o.named == nil {
		t.Columns = append([]render.Column{{Head: "PROJECT", Key: "Project"}}, t.Columns...)
	}
	if m.o.allProjects {
		var err error
		if projects, err = m.engine.Projects(ctx); err != nil {
			return t, err
		}
	}
	if m.o.aggregate {
		t.Columns = append([]render.Column{{Head: "PROJECT", Key: "Project"}}, render.StatsColumns[2:]...)
	}
	for _, p := range projects {
		rows, err := m.project(ctx, p)
		if err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, rows...)
	}
	return t, nil
}

// project are the rows of one project: its containers, or their sum.
func (m *statsMeter) project(ctx context.Context, name string) ([]map[string]any, error) {
	m.session.name = name
	if err := m.observeContainers(ctx); err != nil {
		return nil, err
	}
	used, err := m.engine.Stats(ctx, name)
	if err != nil {
		return nil, err
	}
	var rows []map[string]any
	var sum render.Usage
	n := 0
	for _, a := range m.containers(m.o.services, true) {
		st, lives := used[a.ID]
		if !lives && !m.o.all || !m.asked(a) {
			continue
		}
		u := m.usage(a, st)
		n++
		sum.Add(u)
		id := a.ID
		if !m.o.noTrunc {
			id = id[:min(12, len(id))]
		}
		row := render.Stats(id, a.Name, u)
		if m.o.allProjects {
			row["Project"] = name
		}
		rows = append(rows, row)
	}
	if !m.o.aggregate || n == 0 {
		return rows, nil
	}
	row := render.Stats("", name, sum)
	row["Project"], row["Containers"] = name, n
	delete(row, "ID")
	delete(row, "Container")
	return []map[string]any{row}, nil
}

// asked says whether a container is one of those named, if any are.
func (m *statsMeter) asked(a reconcile.ActualContainer) bool {
	return len(m.o.named) == 0 || slices.Contains(m.o.named, a.ID)
}

func (m *statsMeter) usage(a reconcile.ActualContainer, st engine.Stats) render.Usage {
	now := sample{time.Duration(st.CPU), time.Now()}
	u := render.Usage{Stats: st}
	if was, ok := m.before[a.ID]; ok && now.cpu >= was.cpu {
		u.Busy, u.Span = now.cpu-was.cpu, now.at.Sub(was.at)
	}
	m.before[a.ID] = now
	if a.State.PID > 0 {
		u.Received, u.Sent = traffic(a.State.PID)
	}
	return u
}

// traffic sums what went through a process's network interfaces, the loopback
// left out (proc_pid_net(5)).
func traffic(pid int) (received, sent uint64) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		in, _ := strconv.ParseUint(fields[0], 10, 64)
		out, _ := strconv.ParseUint(fields[8], 10, 64)
		received, sent = received+in, sent+out
	}
	return received, sent
}
