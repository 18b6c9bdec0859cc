package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	c.Flags().StringVar(&o.since, "since", "", "Show all events created since timestamp")
	c.Flags().StringVar(&o.until, "until", "", "Stream events until this timestamp")
	return c
}

// runEvents prints what happens in the project from now on.
func runEvents(ctx context.Context, g *globals, o eventsOptions, services []string) error {
	s, err := g.glance(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	until, err := moment(o.until, time.Now())
	if err != nil {
		return fmt.Errorf("--until: %w", err)
	}
	limit := ctx
	if !until.IsZero() {
		var cancel context.CancelFunc
		limit, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	for {
		err := s.engine.Watch(limit, s.name, nil, func(e engine.Event) error {
			if service := e.Attributes[reconcile.LabelService]; len(services) > 0 && !slices.Contains(services, service) {
				return nil
			}
			return printEvent(g, o.json, e)
		})
		switch {
		case limit.Err() != nil && ctx.Err() == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, wire.ErrLost):
			return err
		}
	}
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
