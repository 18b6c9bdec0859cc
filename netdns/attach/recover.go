package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/davit-run/davit/netdns"
)

// Recover destroys the kernel objects of this installation that no record
// refers to, and makes the networks that are recorded stand again: after a
// crash, or a reboot. Leases of endpoints that are gone are given back.
func (h *Host) Recover(ctx context.Context) error {
	err := h.locked("networks", func() error {
		all, err := h.standing()
		if err != nil {
			return err
		}
		for _, r := range all {
			if err := h.lockNetwork(r.Name, func() error { return h.bury(r) }); err != nil {
				return err
			}
		}
		if err := h.sweep(all); err != nil {
			return err
		}
		return h.locked("firewall", h.rebuild)
	})
	if err != nil {
		return fmt.Errorf("recover networks: %w", err)
	}
	return nil
}

// bury takes away what is recorded of containers that cannot live: endpoints
// from before this boot, and leases and ports without an endpoint. The caller
// holds the network's lock.
func (h *Host) bury(r runtime) error {
	names, err := h.rec.List(keyEndpoints(r.Name))
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	for _, c := range names {
		var ep netdns.Endpoint
		err := h.rec.Read(keyEndpoint(r.Name, c), &ep)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case ep.Boot != bootID():
			if err := h.rec.Remove(keyEndpoint(r.Name, c)); err != nil {
				return err
			}
		default:
			alive[c] = true
		}
	}
	if _, err := h.reclaim(r.Name, func(holder string) bool { return !alive[holder] }); err != nil {
		return err
	}
	return h.buryPorts(r, alive)
}

func (h *Host) buryPorts(r runtime, alive map[string]bool) error {
	names, err := h.rec.List(keyPorts(r.Name))
	if err != nil {
		return err
	}
	for _, c := range names {
		if !alive[c] {
			if err := h.rec.Remove(keyPort(r.Name, c)); err != nil {
				return err
			}
		}
	}
	return nil
}

// bootID names this boot (random(4)).
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// plugged returns the names of the host's veth ends that endpoints refer to.
func (h *Host) plugged(all []runtime) (map[string]bool, error) {
	out := map[string]bool{}
	for _, r := range all {
		names, err := h.rec.List(keyEndpoints(r.Name))
		if err != nil {
			return nil, err
		}
		for _, c := range names {
			var ep netdns.Endpoint
			err := h.rec.Read(keyEndpoint(r.Name, c), &ep)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			out[ep.Host] = true
		}
	}
	return out, nil
}

// sweep removes bridges and veth ends that belong to nothing. The links are
// listed before the endpoints are read: one that another process plugs in the
// meantime was recorded before, so it is known or not yet seen.
func (h *Host) sweep(all []runtime) error {
	links, err := h.links.List(netdns.LinkPrefix)
	if err != nil {
		return err
	}
	known, err := h.plugged(all)
	if err != nil {
		return err
	}
	for _, r := range all {
		known[r.Bridge] = true
	}
	for _, l := range links {
		ours := strings.HasPrefix(l.Name, h.tag.Bridges()) || strings.HasPrefix(l.Name, h.tag.Ports())
		if known[l.Name] || !ours {
			continue
		}
		if err := h.dismantle(l.Name, l.Kind == "bridge"); err != nil {
			return err
		}
	}
	return nil
}
