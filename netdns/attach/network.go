package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/bridge"
	"github.com/davit-run/davit/netdns/firewall"
	"github.com/davit-run/davit/netdns/ipam"
	"github.com/davit-run/davit/netdns/sandbox"
)

// Ensure makes the network stand: subnets chosen, bridge up, rules in the
// table. It returns the network with its pools. Again, it repairs what is
// missing. The record is written first, so that a crash in between leaves
// nothing that Ensure or Remove of the same name does not find.
func (h *Host) Ensure(ctx context.Context, n netdns.Network) (netdns.Network, error) {
	if err := check(n); err != nil {
		return n, err
	}
	var r runtime
	err := h.locked("networks", func() (err error) {
		if r, err = h.record(n); err != nil || r.Bridge == "" {
			return err
		}
		return h.raise(r)
	})
	if err != nil {
		return n, fmt.Errorf("make network %s: %w", n.Name, err)
	}
	return r.Network, nil
}

func check(n netdns.Network) error {
	if err := netdns.CheckName("network", n.Name, 128); err != nil {
		return err
	}
	switch n.Driver {
	case "", "bridge", "host", "none", "null", "macvlan", "ipvlan":
	case "overlay":
		return fmt.Errorf("network %s: driver overlay spans several hosts; use driver bridge on one", n.Name)
	default:
		return fmt.Errorf("network %s: driver %q is not one of bridge, host, none, macvlan, ipvlan", n.Name, n.Driver)
	}
	// What Free puts behind a prefix has two digits at most.
	for option, most := range map[string]int{netdns.OptName: unix.IFNAMSIZ - 1, netdns.OptPrefix: unix.IFNAMSIZ - 3} {
		if v := n.Options[option]; v != "" {
			if err := netdns.CheckName("interface", v, most); err != nil {
				return fmt.Errorf("network %s: option %s: %w", n.Name, option, err)
			}
		}
	}
	if n.NoIPv4 && !n.IPv6 {
		return fmt.Errorf("network %s: enable_ipv4 is false and enable_ipv6 is not true: no address is left", n.Name)
	}
	return nil
}

// bridged says whether the driver has a bridge of ours.
func bridged(driver string) bool { return driver == "" || driver == "bridge" }

// addressed says whether the driver leases addresses.
func addressed(driver string) bool {
	return bridged(driver) || driver == "macvlan" || driver == "ipvlan"
}

// record settles the network's pools and writes it down. A network that is
// recorded under the same id keeps its pools.
func (h *Host) record(n netdns.Network) (runtime, error) {
	r := runtime{Network: n}
	if bridged(n.Driver) {
		r.Bridge = h.tag.Bridge(n.ID)
	}
	old, err := h.runtime(n.Name)
	if err == nil && old.damage != nil {
		return r, old.damage
	}
	if err == nil && old.ID == n.ID && len(old.Pools) > 0 {
		r.Pools = old.Pools
		return r, h.rec.Write(keyRuntime(n.Name), r)
	}
	if err == nil && old.ID != n.ID {
		return r, fmt.Errorf("another network (id %.12s) stands under this name: remove it first", old.ID)
	}
	if err != nil && !errors.Is(err, ErrNoNetwork) {
		return r, err
	}
	if addressed(n.Driver) {
		if r.Pools, err = h.pools(n); err != nil {
			return r, err
		}
	}
	return r, h.rec.Write(keyRuntime(n.Name), r)
}

// pools completes the pools asked for and chooses those that are missing.
func (h *Host) pools(n netdns.Network) ([]netdns.Pool, error) {
	used, err := h.used(n)
	if err != nil {
		return nil, err
	}
	space, err := ipam.Read(h.rec.Dir(ipam.File), h.tag)
	if err != nil {
		return nil, err
	}
	var out []netdns.Pool
	for _, p := range n.Pools {
		if p.Subnet.IsValid() && bridged(n.Driver) {
			if u := ipam.Overlap(p.Subnet, used); u != nil {
				return nil, fmt.Errorf("subnet %s: overlaps %s of %s", p.Subnet, u.Subnet, u.By)
			}
		}
		if p.Subnet.IsValid() {
			out = append(out, p)
		}
	}
	for _, six := range []bool{false, true} {
		wanted := !six && !n.NoIPv4 || six && n.IPv6
		if !wanted || slices.ContainsFunc(out, func(p netdns.Pool) bool { return p.Subnet.Addr().Is6() == six }) {
			continue
		}
		subnet, err := space.Choose(six, used)
		if err != nil {
			return nil, err
		}
		out = append(out, netdns.Pool{Subnet: subnet})
	}
	for i := range out {
		if out[i], err = ipam.Complete(out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// used lists the subnets that others have: our networks and the host's routes.
func (h *Host) used(n netdns.Network) ([]ipam.Use, error) {
	all, err := h.standing()
	if err != nil {
		return nil, err
	}
	var out []ipam.Use
	for _, r := range all {
		for _, p := range r.Pools {
			if r.Name != n.Name && bridged(r.Driver) {
				out = append(out, ipam.Use{Subnet: p.Subnet, By: "network " + r.Name})
			}
		}
	}
	routes, err := h.links.Routed()
	if err != nil {
		return nil, err
	}
	for _, p := range routes {
		out = append(out, ipam.Use{Subnet: p, By: "a route of this host"})
	}
	return out, nil
}

// raise makes bridge and rules of a recorded network stand. The rules come
// before the bridge is up: there is no moment without isolation.
func (h *Host) raise(r runtime) error {
	spec := spec(r)
	if err := together(func() error { return h.found(r, &spec) }); err != nil {
		return err
	}
	if err := h.links.Up(spec); err != nil {
		return err
	}
	return h.letThrough(r.Bridge)
}

// found makes the bridge, with the marks of what is changed for it, then the
// rules, then the changes.
func (h *Host) found(r runtime, s *bridge.Spec) error {
	alias, todo, err := h.forward(r)
	if err != nil {
		return err
	}
	s.Alias = alias
	if err := h.links.Make(*s); err != nil {
		return err
	}
	if err := bridgeSysctls(r); err != nil {
		return err
	}
	if err := h.guard(r, len(todo) > 0); err != nil {
		return err
	}
	for _, t := range todo {
		if err := sandbox.Sysctl(t.path, t.value); err != nil {
			return err
		}
	}
	return nil
}

// guard puts the network's rules into the table, or all rules if asked to or if
// the table is not whole.
func (h *Host) guard(r runtime, all bool) error {
	return h.locked("firewall", func() error {
		stands, err := h.table.Stands()
		if err != nil {
			return err
		}
		if stands && !all {
			if err = h.table.Add(rules(r)); err == nil || !errors.Is(err, firewall.ErrAbsent) {
				return err
			}
		}
		return h.rebuild()
	})
}

func spec(r runtime) bridge.Spec {
	s := bridge.Spec{Name: r.Bridge, Alias: "davit " + r.Name, Also: r.Options[netdns.OptName], MTU: mtu(r.Network)}
	for _, p := range r.Pools {
		s.Addresses = append(s.Addresses, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))
	}
	return s
}

func mtu(n netdns.Network) int {
	m, err := strconv.Atoi(n.Options[netdns.OptMTU])
	if err != nil || m < 68 || m > 65535 { // RFC 791: every link carries 68
		return 0
	}
	return m
}

func rules(r runtime) firewall.Net {
	n := firewall.Net{Bridge: r.Bridge, Internal: r.Internal, Bare: r.Options[netdns.OptMasquerade] == "false"}
	for _, p := range r.Pools {
		n.Subnets = append(n.Subnets, p.Subnet)
	}
	return n
}

// bridgeSysctls lets the host's loopback reach published ports through this
// bridge and no other link (the raw chain drops what comes back that way,
// CVE-2020-8558), and keeps IPv6 off where the network has none (CVE-2020-13401).
func bridgeSysctls(r runtime) error {
	if err := sandbox.Sysctl("ipv4/conf/"+r.Bridge+"/route_localnet", "1"); err != nil {
		return err
	}
	if !r.Internal {
		if err := sandbox.Sysctl("ipv4/conf/"+r.Bridge+"/forwarding", "1"); err != nil {
			return err
		}
	}
	// Without duplicate detection: while the bridge's link-local address is
	// tentative the kernel asks for no neighbour, a second long.
	for _, name := range []string{"accept_ra", "accept_dad"} {
		if err := optional("ipv6/conf/"+r.Bridge+"/"+name, "0"); err != nil {
			return err
		}
	}
	if len(ipam.Family(r.Network, true)) == 0 {
		return optional("ipv6/conf/"+r.Bridge+"/disable_ipv6", "1")
	}
	return optional("ipv6/conf/"+r.Bridge+"/disable_ipv6", "0")
}

// Remove takes the network away: rules, bridge, leases, records; with the last
// one also the table and the sysctls that davit changed. What is not there is
// no error, so Remove may be repeated after a crash.
func (h *Host) Remove(ctx context.Context, name string) error {
	if err := netdns.CheckName("network", name, 128); err != nil {
		return err
	}
	err := h.locked("networks", func() error {
		r, err := h.runtime(name)
		if errors.Is(err, ErrNoNetwork) {
			return nil
		}
		if err != nil {
			return err
		}
		return h.fell(r)
	})
	if err != nil {
		return fmt.Errorf("remove network %s: %w", name, err)
	}
	return nil
}

func (h *Host) fell(r runtime) error {
	if r.Bridge != "" {
		if err := h.dismantle(r.Bridge, true); err != nil {
			return err
		}
	}
	// A container that stopped a moment ago may be giving its address back.
	err := h.lockNetwork(r.Name, func() error {
		for _, dir := range []string{keyEndpoints(r.Name), keyPorts(r.Name)} {
			if err := h.clear(dir); err != nil {
				return err
			}
		}
		return ipam.Forget(h.rec, r.Name)
	})
	if err != nil {
		return err
	}
	return h.locked("firewall", func() error {
		if err := h.rec.Remove(keyRuntime(r.Name)); err != nil {
			return err
		}
		if r.Bridge == "" {
			return nil
		}
		return h.rebuild()
	})
}

// dismantle removes a link; with the last bridge of the host go the sysctls.
func (h *Host) dismantle(name string, isBridge bool) error {
	if !isBridge {
		return h.links.Remove(name)
	}
	return together(func() error {
		// Whoever puts rules back meanwhile sees the bridge with the rules that
		// let it through, or neither.
		return h.locked("firewall", func() error {
			if err := h.stopLetting(name); err != nil {
				return err
			}
			if err := h.restore(name); err != nil {
				return err
			}
			return h.links.Remove(name)
		})
	})
}

func (h *Host) clear(dir string) error {
	names, err := h.rec.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := h.rec.Remove(dir + "/" + n); err != nil {
			return err
		}
	}
	return nil
}
