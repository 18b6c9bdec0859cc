package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/firewall"
)

// Publish leads host ports to containers. Every port is reserved first, by a
// socket that is bound and does not listen; the sockets come back, to be kept
// open as long as the port is published: they survive the keeper in the fd
// store and come back to Resume. HostPort 0 and ranges are filled in. If one
// port is taken nothing is published, and the error is a *TakenError.
//
// Suspended are reservations that Suspend was called for, which become the
// caller's again or are closed: who asks for one of those ports gets it, and
// its clients go on waiting until Lead.
func (h *Host) Publish(ctx context.Context, pubs []netdns.Publication, suspended ...*os.File) ([]netdns.Publication, []*os.File, error) {
	out := slices.Clone(pubs)
	files, claimed := h.takeOver(out, suspended)
	var now []netdns.Publication
	err := h.do(func() error {
		for i := range out {
			if !claimed[i] {
				held, err := h.reserve(&out[i])
				files = append(files, held...)
				if err != nil {
					return err
				}
			}
			if len(h.waiting(out[i])) == 0 {
				now = append(now, out[i])
			}
		}
		return nil
	})
	if err == nil {
		err = h.install(now)
	}
	if err == nil {
		err = h.startProxies(ctx, now, files)
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, nil, errors.Join(err, h.Unpublish(ctx, out))
	}
	return out, files, nil
}

// install records publications and puts them into the table.
func (h *Host) install(pubs []netdns.Publication) error {
	if len(pubs) == 0 {
		return nil
	}
	err := h.locked("firewall", func() error {
		if err := h.recordPorts(pubs, true); err != nil {
			return err
		}
		err := h.table.Publish(ports(pubs))
		if errors.Is(err, firewall.ErrAbsent) || errors.Is(err, fs.ErrExist) {
			err = h.rebuild() // flushed, or a crash left the port to another container
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("publish ports: %w", err)
	}
	return h.do(func() error { return forgetFlows(pubs, true) })
}

// recordPorts adds publications to the records of their containers, or takes
// them out.
func (h *Host) recordPorts(pubs []netdns.Publication, add bool) error {
	by := map[string][]netdns.Publication{}
	for _, p := range pubs {
		k := keyPort(p.Network, p.Container)
		by[k] = append(by[k], p)
	}
	for k, mine := range by {
		var have []netdns.Publication
		if err := h.rec.Read(k, &have); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		have = slices.DeleteFunc(have, func(o netdns.Publication) bool {
			return slices.ContainsFunc(mine, func(p netdns.Publication) bool { return same(o, p) })
		})
		if add {
			have = append(have, mine...)
		}
		var err error
		if len(have) == 0 {
			err = h.rec.Remove(k)
		} else {
			err = h.rec.Write(k, have)
		}
		if err != nil {
			return fmt.Errorf("record ports: %w", err)
		}
	}
	return nil
}

// same says whether two publications are of one host port.
func same(a, b netdns.Publication) bool {
	return a.HostPort == b.HostPort && a.Protocol == b.Protocol && a.HostIP == b.HostIP
}

// Unpublish takes published ports away: no new connection reaches the
// container, and the flows that conntrack knows are forgotten (a UDP client
// would go on reaching the old address). The caller closes the reservations.
// It is idempotent.
func (h *Host) Unpublish(ctx context.Context, pubs []netdns.Publication) error {
	if len(pubs) == 0 {
		return nil
	}
	h.stopProxies(pubs)
	if err := h.withdraw(pubs); err != nil {
		return fmt.Errorf("unpublish ports: %w", err)
	}
	return h.do(func() error { return forgetFlows(pubs, false) })
}

// withdraw takes publications out of the records and the table.
func (h *Host) withdraw(pubs []netdns.Publication) error {
	return h.locked("firewall", func() error {
		mine, err := h.recorded(pubs)
		if err != nil || len(mine) == 0 {
			return err
		}
		if err := h.recordPorts(mine, false); err != nil {
			return err
		}
		if err := h.table.Unpublish(ports(mine)); err != nil {
			return h.rebuild()
		}
		return nil
	})
}

// recorded returns those publications that are on record.
func (h *Host) recorded(pubs []netdns.Publication) ([]netdns.Publication, error) {
	var out []netdns.Publication
	for _, p := range pubs {
		var have []netdns.Publication
		err := h.rec.Read(keyPort(p.Network, p.Container), &have)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, o := range have {
			if same(o, p) {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// Resume makes publications whose reservations outlived their keeper work
// again: rules that are missing come back, proxies start on the given sockets.
func (h *Host) Resume(ctx context.Context, pubs []netdns.Publication, files []*os.File) error {
	if err := h.install(pubs); err != nil {
		return err
	}
	return h.startProxies(ctx, pubs, files)
}

// proxied says whether a publication needs a proxy on IPv6: for a container
// that has IPv4 alone, and for ::1, which the kernel leads to no bridge.
func proxied(p netdns.Publication) bool {
	if p.Protocol == "sctp" || !p.To.IsValid() && !p.To6.IsValid() {
		return false
	}
	if !p.HostIP.IsValid() {
		return true
	}
	return p.HostIP.Is6() && (!p.To6.IsValid() || wildcard(p.HostIP) || p.HostIP.IsLoopback())
}
