package attach

import (
	"context"
	"fmt"
	"time"

	"github.com/davit-run/davit/netdns/firewall"
)

const (
	// settleTime lets a burst of changes end before the table is looked at.
	settleTime = 50 * time.Millisecond
	// lookTime is how often the table is looked at without being told to, in
	// case a notification was lost.
	lookTime = 30 * time.Second
	// againTime is how soon what failed is tried again, mostFailures how often.
	againTime    = 500 * time.Millisecond
	mostFailures = 20
)

// Watch keeps the rules standing until ctx ends: when another program deletes
// any of them, everything is put back as the records say, long before two
// seconds are over.
func (h *Host) Watch(ctx context.Context) error {
	var w *firewall.Watcher
	err := h.do(func() (err error) { w, err = h.table.Watch(); return err })
	if err != nil {
		return fmt.Errorf("watch firewall: %w", err)
	}
	defer w.Close()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer stop()
	for failed := 0; ; {
		patience := lookTime
		if failed > 0 {
			patience = againTime
		}
		hurt, err := w.Next(patience)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch firewall: %w", err)
		}
		if hurt {
			time.Sleep(settleTime)
		}
		err = h.reassert(hurt || failed > 0)
		switch {
		case err == nil:
			failed = 0
		case failed == mostFailures:
			return fmt.Errorf("put firewall rules back: %w", err)
		default:
			failed++ // the other program may be in the middle of its change
		}
	}
}

// reassert puts the rules back if they may be hurt, or are found missing.
func (h *Host) reassert(hurt bool) error {
	return h.locked("firewall", func() error {
		all, err := h.standing()
		if err != nil || len(all) == 0 {
			return err
		}
		if !hurt {
			if stands, err := h.table.Stands(); err != nil || stands {
				return err
			}
		}
		w, err := h.wanted()
		if err != nil {
			return err
		}
		if holds, err := h.table.Holds(w); err != nil || !holds {
			if err := h.rebuild(); err != nil {
				return err
			}
		}
		for _, r := range all {
			if r.Bridge == "" || !h.links.Exists(r.Bridge) {
				continue
			}
			if err := h.letThrough(r.Bridge); err != nil {
				return err
			}
		}
		return nil
	})
}
