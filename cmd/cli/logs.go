package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"
)

type logsOptions struct {
	look
	follow             bool
	index              int
	since, until, tail string
	verify             bool
}

func newLogs(g *globals) *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use:   "logs [OPTIONS] [SERVICE...]",
		Short: "View output from containers",
		RunE: func(c *cobra.Command, args []string) error {
			return runLogs(c.Context(), g, o, args)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.follow, "follow", "f", false, "Follow log output")
	f.Func("grep", "Show only lines that match a regular expression (RE2); davit's own notices stay", func(word string) (err error) {
		o.grep, err = regexp.Compile(word)
		return err
	})
	f.IntVar(&o.index, "index", 0, "index of the container if service has multiple replicas")
	f.BoolVar(&o.json, "json", false, "One JSON object per line: source, stream, time, text")
	f.BoolVar(&o.noColor, "no-color", false, "Produce monochrome output")
	f.BoolVar(&o.noPrefix, "no-log-prefix", false, "Don't print prefix in logs")
	f.StringVar(&o.since, "since", "", "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)")
	f.StringVar(&o.until, "until", "", "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)")
	f.StringVarP(&o.tail, "tail", "n", "all", "Number of lines to show from the end of the logs for each container")
	f.BoolVarP(&o.timestamps, "timestamps", "t", false, "Show timestamps")
	f.BoolVar(&o.verify, "verify", false, "Check the logs on disk against their index instead of showing them; exit status 1 where one is damaged")
	c.MarkFlagsMutuallyExclusive("verify", "follow")
	return c
}

func (o logsOptions) read(now time.Time) (journal.ReadOptions, error) {
	r := journal.ReadOptions{Tail: -1, Follow: o.follow, Past: true}
	var err error
	if r.Since, err = moment(o.since, now); err != nil {
		return r, fmt.Errorf("--since: %w", err)
	}
	if r.Until, err = moment(o.until, now); err != nil {
		return r, fmt.Errorf("--until: %w", err)
	}
	if o.tail != "" && o.tail != "all" {
		n, err := strconv.Atoi(o.tail)
		if err != nil {
			return r, fmt.Errorf("--tail %q: use a number of lines, or all", o.tail)
		}
		r.Tail = max(n, -1)
	}
	return r, nil
}

// moments are the forms of a point in time that docker takes.
var moments = [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"}

// moment reads a point in time: a timestamp, seconds since 1970, or how long
// ago it was.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Unix(0, int64(f*1e9)), nil
	}
	for _, form := range moments {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time, such as 2013-01-02T13:23:37Z, nor how long ago, such as 42m", s)
}

// runLogs prints what containers have written, and with --follow what they go
// on to write until all have ended.
func runLogs(ctx context.Context, g *globals, o logsOptions, services []string) error {
	read, err := o.read(time.Now())
	if err != nil {
		return err
	}
	s, err := g.glance(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if o.verify {
		list, err := s.logged(ctx, o, services)
		if err != nil {
			return err
		}
		return s.verifyLogs(list)
	}
	o.joined = true // as docker compose does, and as `logs >file` is meant
	f, err := s.openLogs(ctx, o, services, read, false)
	if errors.Is(err, errGoing) {
		// Another command is at work: once it is done, what the container said is
		// found with the one in its place.
		if err := s.lock(ctx); err != nil {
			return err
		}
		f, err = s.openLogs(ctx, o, services, read, true)
		s.release()
	}
	if err != nil {
		return err
	}
	if o.follow {
		go f.run(ctx)
	} else {
		f.stream.mux.Finish()
	}
	return f.stream.copy(ctx)
}

// logged are the containers whose logs are asked for, as they are now.
func (s *session) logged(ctx context.Context, o logsOptions, services []string) ([]reconcile.ActualContainer, error) {
	if err := s.observeContainers(ctx); err != nil {
		return nil, err
	}
	if o.index > 0 {
		a, err := s.replica(services, o.index)
		return []reconcile.ActualContainer{a}, err
	}
	return s.containers(services, false), nil
}

// openLogs opens the logs of the containers that there are; errGoing when one
// is being taken away meanwhile, unless nobody is at work: then its removal was
// broken off, and what is left of it is shown.
func (s *session) openLogs(ctx context.Context, o logsOptions, services []string, read journal.ReadOptions, alone bool) (*logFollower, error) {
	list, err := s.logged(ctx, o, services)
	if err != nil {
		return nil, err
	}
	st := s.newStream(o.look)
	for _, a := range list {
		st.name(s.label(a.Name))
	}
	f := newLogFollower(s, st, services, o.index)
	for _, a := range list {
		if err := f.add(ctx, a, read); err != nil && !(alone && errors.Is(err, errGoing)) {
			return nil, errors.Join(err, st.close())
		}
	}
	return f, nil
}

// replica is one of the containers of a single service.
func (s *session) replica(services []string, index int) (reconcile.ActualContainer, error) {
	if len(services) != 1 {
		return reconcile.ActualContainer{}, fmt.Errorf("--index needs exactly one service")
	}
	return s.pick(services[0], index)
}

// pick finds the container of a service: its first, or the one with an index.
func (s *session) pick(service string, index int) (reconcile.ActualContainer, error) {
	var found *reconcile.ActualContainer
	for i, a := range s.actual.Containers {
		if a.OneOff() || a.Service() != service || index > 0 && a.Number() != index {
			continue
		}
		if found == nil || a.Alive() && !found.Alive() || a.Alive() == found.Alive() && a.Number() < found.Number() {
			found = &s.actual.Containers[i]
		}
	}
	if found != nil {
		return *found, nil
	}
	if index > 0 {
		return reconcile.ActualContainer{}, fmt.Errorf("service %q has no container #%d", service, index)
	}
	return reconcile.ActualContainer{}, fmt.Errorf("service %q is not running", service)
}
