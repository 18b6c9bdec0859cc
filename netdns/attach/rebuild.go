package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/firewall"
)

// rebuild makes the table what the records say, in one transaction; without
// networks there is none. The caller holds the firewall lock.
func (h *Host) rebuild() error {
	w, err := h.wanted()
	if err != nil {
		return err
	}
	if len(w.Nets) == 0 {
		return h.table.Remove()
	}
	return h.table.Replace(w)
}

// wanted reads from the records what the table is to hold.
func (h *Host) wanted() (firewall.Wanted, error) {
	var w firewall.Wanted
	all, err := h.standing()
	if err != nil {
		return w, err
	}
	for _, r := range all {
		if r.Bridge == "" {
			continue
		}
		w.Nets = append(w.Nets, rules(r))
		pubs, err := h.published(r.Name)
		if err != nil {
			return w, err
		}
		w.Ports = append(w.Ports, ports(pubs)...)
	}
	w.Guard = h.guarding()
	return w, nil
}

// published returns the recorded publications on a network.
func (h *Host) published(network string) ([]netdns.Publication, error) {
	names, err := h.rec.List(keyPorts(network))
	if err != nil {
		return nil, fmt.Errorf("list ports of network %s: %w", network, err)
	}
	var out []netdns.Publication
	for _, c := range names {
		var pubs []netdns.Publication
		err := h.rec.Read(keyPort(network, c), &pubs)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read ports of container %s: %w", c, err)
		}
		out = append(out, pubs...)
	}
	return out, nil
}

// ports turns publications into what the kernel rewrites by itself: the family
// of the host's address must be the container's. The rest is for a proxy.
func ports(pubs []netdns.Publication) []firewall.Port {
	var out []firewall.Port
	for _, p := range pubs {
		for _, to := range []netip.Addr{p.To, p.To6} {
			if !to.IsValid() || p.HostIP.IsValid() && !wildcard(p.HostIP) && p.HostIP.Is6() != to.Is6() {
				continue
			}
			if p.HostIP.IsValid() && wildcard(p.HostIP) && p.HostIP.Is6() != to.Is6() {
				continue // 0.0.0.0 and [::] written out mean one family
			}
			out = append(out, firewall.Port{
				Protocol: p.Protocol, On: p.HostIP, Port: p.HostPort,
				To: netip.AddrPortFrom(to, p.ContainerPort),
			})
		}
	}
	return out
}

func wildcard(a netip.Addr) bool { return a.IsUnspecified() }
