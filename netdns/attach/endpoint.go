package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/bridge"
	"github.com/davit-run/davit/netdns/ipam"
	"github.com/davit-run/davit/netdns/sandbox"
)

// Attach gives the container whose namespace is ns its place on a network. The
// endpoint comes back with everything that was chosen: addresses, MAC, names of
// both ends. It is recorded first: resolvers of all projects see it, and
// Recover finds what a crash leaves. A container that is attached again, after
// a restart, gets the addresses it had.
func (h *Host) Attach(ctx context.Context, ns *os.File, ep netdns.Endpoint) (netdns.Endpoint, error) {
	r, err := h.runtime(ep.Network)
	if err != nil {
		return ep, fmt.Errorf("attach container %s: %w", ep.Name, err)
	}
	if !addressed(r.Driver) {
		return ep, nil
	}
	if ep, err = h.settle(ns, r, ep); err == nil {
		err = h.do(func() error { return h.connect(ns, r, ep) })
	}
	if err != nil {
		err = fmt.Errorf("attach container %s to network %s: %w", ep.Name, ep.Network, err)
		return ep, errors.Join(err, h.Detach(ctx, ep))
	}
	return ep, nil
}

// settle chooses what the endpoint leaves open and records it.
func (h *Host) settle(ns *os.File, r runtime, ep netdns.Endpoint) (netdns.Endpoint, error) {
	if err := netdns.CheckName("container", ep.Container, 128); err != nil {
		return ep, err
	}
	if ep.Interface == "" {
		name, err := sandbox.Free(ns, cmp.Or(r.Options[netdns.OptPrefix], "eth"))
		if err != nil {
			return ep, err
		}
		ep.Interface = name
	} else if err := netdns.CheckName("interface", ep.Interface, unix.IFNAMSIZ-1); err != nil {
		return ep, err
	}
	if ep.Since.IsZero() {
		ep.Since = time.Now()
	}
	ep.Boot = bootID()
	if r.Bridge != "" {
		ep.Host = h.tag.Port(ep.Container, r.ID)
	}
	err := h.lockNetwork(r.Name, func() (err error) {
		if _, err := h.runtime(r.Name); err != nil {
			return err // removed meanwhile
		}
		want := ipam.Want{Holder: ep.Container, IPv4: ep.IPv4, IPv6: ep.IPv6}
		if ep.IPv4, ep.IPv6, err = h.lease(r, want); err != nil {
			return err
		}
		if ep.MAC == "" {
			ep.MAC = bridge.Hardware(first(ep), ep.Container).String()
		}
		return h.rec.Write(keyEndpoint(r.Name, ep.Container), ep)
	})
	return ep, err
}

// lease gives out addresses; where none can be had, those are taken back first
// whose holders are off the network. The caller holds the network's lock.
func (h *Host) lease(r runtime, want ipam.Want) (v4, v6 netip.Addr, err error) {
	if v4, v6, err = ipam.Lease(h.rec, r.Network, want); err == nil {
		return v4, v6, nil
	}
	some, rerr := h.reclaim(r.Name, func(holder string) bool {
		var ep netdns.Endpoint
		return holder != want.Holder && errors.Is(h.rec.Read(keyEndpoint(r.Name, holder), &ep), fs.ErrNotExist)
	})
	if rerr != nil || !some {
		return v4, v6, errors.Join(err, rerr)
	}
	return ipam.Lease(h.rec, r.Network, want)
}

// reclaim takes back what those hold on a network who are gone from it, and says
// whether that was anything. The caller holds the network's lock.
func (h *Host) reclaim(network string, gone func(holder string) bool) (some bool, err error) {
	held, err := ipam.Held(h.rec, network)
	if err != nil {
		return false, err
	}
	for _, c := range held {
		if !gone(c) {
			continue
		}
		if err := ipam.Release(h.rec, network, c); err != nil {
			return some, err
		}
		some = true
	}
	return some, nil
}

func first(ep netdns.Endpoint) netip.Addr {
	if ep.IPv4.IsValid() {
		return ep.IPv4
	}
	return ep.IPv6
}

func (h *Host) connect(ns *os.File, r runtime, ep netdns.Endpoint) error {
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil {
		return fmt.Errorf("mac_address %q: %w", ep.MAC, err)
	}
	if err := h.plug(ns, r, ep, mac); err != nil {
		return err
	}
	l, err := link(r, ep)
	if err != nil {
		return err
	}
	if err := sandbox.Configure(ns, l); err != nil {
		return err
	}
	if err := tune(ns, ep); err != nil || ep.Host == "" {
		return err
	}
	if err := h.links.Settle(ep.Host, r.Bridge); err != nil || !ep.IPv6.IsValid() {
		return err
	}
	return h.links.SettleIPv6(r.Bridge)
}

func (h *Host) plug(ns *os.File, r runtime, ep netdns.Endpoint, mac net.HardwareAddr) error {
	switch r.Driver {
	case "macvlan", "ipvlan":
		name := r.Options[netdns.OptParent]
		if name == "" {
			return fmt.Errorf("driver %s needs a link of this host: name it under driver_opts as parent, such as parent: eth0", r.Driver)
		}
		parent, err := h.links.Index(name)
		if err != nil {
			return fmt.Errorf("driver_opts parent: %w", err)
		}
		if r.Driver == "ipvlan" {
			return sandbox.IPvlan(ns, parent, ep.Interface, r.Options["ipvlan_mode"])
		}
		return sandbox.Macvlan(ns, parent, ep.Interface, r.Options["macvlan_mode"], mac)
	}
	p := bridge.Plug{Bridge: r.Bridge, Host: ep.Host, Inside: ep.Interface, MAC: mac, MTU: mtu(r.Network), Alone: r.Options[netdns.OptTalk] == "false"}
	err := h.links.Plug(ns, p)
	if errors.Is(err, unix.EEXIST) {
		// The container's last namespace is still being taken down.
		if err := h.links.Remove(ep.Host); err != nil {
			return err
		}
		err = h.links.Plug(ns, p)
	}
	return err
}

// link is the endpoint as the container will see it.
func link(r runtime, ep netdns.Endpoint) (sandbox.Link, error) {
	l := sandbox.Link{Name: ep.Interface}
	for _, a := range []netip.Addr{ep.IPv4, ep.IPv6} {
		for _, p := range r.Pools {
			if a.IsValid() && p.Subnet.Contains(a) {
				l.Addresses = append(l.Addresses, netip.PrefixFrom(a, p.Subnet.Bits()))
				if ep.Gateway && !r.Internal {
					l.Gateways = append(l.Gateways, p.Gateway)
				}
				break
			}
		}
	}
	for _, s := range ep.LinkLocal {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return l, fmt.Errorf("link_local_ips %q: %w", s, err)
		}
		bits := 16 // RFC 3927: 169.254/16
		if a.Is6() {
			bits = 64
		}
		l.Addresses = append(l.Addresses, netip.PrefixFrom(a, bits))
	}
	return l, nil
}

// Detach forgets the endpoint: resolvers stop answering it, its addresses are
// free. The link goes with the container's namespace, which costs nothing;
// Disconnect takes it out of one that stays. It is idempotent.
func (h *Host) Detach(ctx context.Context, ep netdns.Endpoint) error {
	err := h.lockNetwork(ep.Network, func() error {
		if err := h.rec.Remove(keyEndpoint(ep.Network, ep.Container)); err != nil {
			return err
		}
		err := ipam.Release(h.rec, ep.Network, ep.Container)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			// A full disk keeps nobody from going. Without an endpoint the
			// lease is void: see lease, and bury.
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("detach container %s from network %s: %w", ep.Name, ep.Network, err)
	}
	return nil
}

// Disconnect takes a running container off a network: its link is removed from
// ns, then the endpoint is detached. It is idempotent.
func (h *Host) Disconnect(ctx context.Context, ns *os.File, ep netdns.Endpoint) error {
	if ep.Interface != "" {
		if err := sandbox.Unplug(ns, ep.Interface); err != nil {
			return fmt.Errorf("disconnect container %s from network %s: %w", ep.Name, ep.Network, err)
		}
	}
	return h.Detach(ctx, ep)
}

// Tidy makes a namespace that others still use fit for its container's next
// start: what the last one left in it is removed. It is idempotent.
func (h *Host) Tidy(ctx context.Context, ns *os.File, eps []netdns.Endpoint) error {
	var keep []string
	for _, ep := range eps {
		keep = append(keep, ep.Interface)
	}
	return sandbox.Tidy(ns, keep)
}

// End ends the connections that are left in the namespace of a container whose
// processes are gone, so that the namespace and its links go when ns is closed.
func (h *Host) End(ns *os.File) error { return sandbox.End(ns) }

// Rename changes the names of an endpoint that stands: resolvers of all
// projects answer to the new ones at once. It is idempotent.
func (h *Host) Rename(ctx context.Context, ep netdns.Endpoint) error {
	err := h.lockNetwork(ep.Network, func() error {
		var was netdns.Endpoint
		if err := h.rec.Read(keyEndpoint(ep.Network, ep.Container), &was); err != nil {
			return err
		}
		was.Names, was.LinkAliases, was.Gateway = ep.Names, ep.LinkAliases, ep.Gateway
		return h.rec.Write(keyEndpoint(ep.Network, ep.Container), was)
	})
	if err != nil {
		return fmt.Errorf("rename container %s on network %s: %w", ep.Name, ep.Network, err)
	}
	return nil
}

// Reroute makes an endpoint that stands the way out of its container: the
// default routes in ns lead through it from now on. It is idempotent.
func (h *Host) Reroute(ctx context.Context, ns *os.File, ep netdns.Endpoint) error {
	r, err := h.runtime(ep.Network)
	if err != nil {
		return fmt.Errorf("route container %s: %w", ep.Name, err)
	}
	if !addressed(r.Driver) {
		return nil
	}
	ep.Gateway = true
	l, err := link(r, ep)
	if err == nil {
		err = sandbox.Configure(ns, l)
	}
	if err != nil {
		return fmt.Errorf("route container %s through network %s: %w", ep.Name, ep.Network, err)
	}
	return nil
}
