package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/reconcile"
)

type eventsOptions struct {
	json         bool
	since, until string
}

func newEvents(g *globals) *cobra.Command {
	var o eventsOptions
	c := &cobra.Command{
		Use:   "events [OPTIONS] [SERVICE...]",
		Short: "Receive real time events from containers",
		RunE: func(c *cobra.Command, args []string) error {
			return runEvents(c.Context(), g, o, args)
		},
	}
	c.Flags().BoolVar(&o.json, "json", false, "Output events as a stream of json objects")
	c.Flags().StringVar(&o.since, "since", "", "Show all events created since timestamp; the project remembers them until it is taken down")
	c.Flags().StringVar(&o.until, "until", "", "Stream events until this timestamp")
	return c
}

// runEvents prints what happens in the project from now on, after what is
// remembered of the time since --since.
func runEvents(ctx context.Context, g *globals, o eventsOptions, services []string) error {
	s, err := g.find(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	now := time.Now()
	since, err := moment(o.since, now)
	if err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	until, err := moment(o.until, now)
	if err != nil {
		return fmt.Errorf("--until: %w", err)
	}
	f := &eventFeed{session: s, json: o.json, services: services, since: since, until: until, last: since}
	if since.IsZero() {
		f.last = now
	}
	limit := ctx
	if !until.IsZero() {
		var cancel context.CancelFunc
		limit, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	return f.follow(ctx, limit)
}

// An eventFeed prints every event once, in order.
type eventFeed struct {
	*session
	json         bool
	services     []string
	since, until time.Time
	last         time.Time // of what was printed
}

// follow prints what is remembered and what happens until limit ends. It waits
// for the project to come to life, rather than make it.
func (f *eventFeed) follow(ctx, limit context.Context) error {
	if err := f.past(); err != nil {
		return err
	}
	for limit.Err() == nil || ctx.Err() != nil {
		client, err := wire.Dial(limit, f.engine.Layout(), f.session.name)
		if err == nil {
			err = client.Call(limit, wire.Request{Op: wire.OpWatch}, func(r wire.Reply, _ []*os.File) error {
				if r.Event == nil {
					return f.past()
				}
				return f.print(*r.Event)
			})
			client.Close()
		} else if errors.Is(err, wire.ErrNoKeeper) {
			err = f.past()
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case limit.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, wire.ErrLost) && !errors.Is(err, wire.ErrNoKeeper):
			return err
		}
		select {
		case <-limit.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil
}

// past prints what was remembered after the last that was printed.
func (f *eventFeed) past() error {
	for _, name := range []string{"events.1", "events"} {
		file, err := os.Open(filepath.Join(f.engine.Layout().Project(f.session.name), name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for err == nil && lines.Scan() {
			var e engine.Event
			if json.Unmarshal(lines.Bytes(), &e) == nil { // the last may be half-written
				err = f.print(e)
			}
		}
		err = errors.Join(err, lines.Err(), file.Close())
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
	return nil
}

func (f *eventFeed) print(e engine.Event) error {
	if !e.Time.After(f.last) || !f.until.IsZero() && e.Time.After(f.until) {
		return nil
	}
	f.last = e.Time
	if service := e.Attributes[reconcile.LabelService]; len(f.services) > 0 && !slices.Contains(f.services, service) {
		return nil
	}
	return printEvent(f.globals, f.json, e)
}

func printEvent(g *globals, asJSON bool, e engine.Event) error {
	attributes := map[string]string{}
	for k, v := range e.Attributes {
		if !strings.HasPrefix(k, reconcile.LabelPrefix) {
			attributes[k] = v
		}
	}
	if asJSON {
		return json.NewEncoder(g.out).Encode(map[string]any{
			"time": e.Time.Local(), "type": e.Type, "service": e.Attributes[reconcile.LabelService],
			"id": e.ID, "action": e.Action, "attributes": attributes,
		})
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(attributes)) {
		words = append(words, k+"="+attributes[k])
	}
	_, err := fmt.Fprintf(g.out, "%s %s %s %s (%s)\n", e.Time.Local().Format("2006-01-02 15:04:05.000000"), e.Type, e.Action, e.ID, strings.Join(words, ", "))
	return err
}
