package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
)

// reload takes a changed record over. What it says of networks, names, ports and
// name servers is brought about at once in a container that has its place on the
// network; everything else is for the next start.
func (c *container) reload() error {
	rec, err := c.k.o.Layout.LoadContainer(c.k.o.Project, c.id)
	if err != nil {
		return err
	}
	c.k.mu.Lock()
	c.rec = rec
	c.k.mu.Unlock()
	if c.place.ns == nil || rec.Spec.NetworkMode != "" {
		return c.giveBack()
	}
	if err := c.move(c.k.ctx); err != nil {
		return fmt.Errorf("update container %s: %w", c.name(), err)
	}
	c.state.Endpoints, c.state.Ports = c.place.endpoints(), c.place.bound()
	if err := c.save(false); err != nil {
		return err
	}
	c.event("update", "")
	return nil
}

// giveBack detaches a container that does not run from the networks that its
// record no longer names.
func (c *container) giveBack() error {
	names, err := c.attached()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if slices.ContainsFunc(c.rec.Spec.Endpoints, func(e engine.EndpointSpec) bool { return e.Network == n }) {
			continue
		}
		host, err := c.k.network()
		if err != nil {
			return err
		}
		errs = append(errs, host.Detach(c.k.ctx, netdns.Endpoint{Network: n, Container: c.id, Project: c.rec.Project, Name: c.name()}))
	}
	return errors.Join(errs...)
}

// A mover is what a Network must also be able to do for a container that stays
// where it is: take a link out of its namespace, send its traffic another way,
// change its names. Every method is idempotent.
type mover interface {
	Disconnect(ctx context.Context, ns *os.File, ep netdns.Endpoint) error
	Reroute(ctx context.Context, ns *os.File, ep netdns.Endpoint) error
	Rename(ctx context.Context, ep netdns.Endpoint) error
}

// move brings the place in line with the record: ports that are no longer
// published go first, new ones come last.
func (c *container) move(ctx context.Context) error {
	host, err := c.k.network()
	if err != nil {
		return err
	}
	m, ok := host.(mover)
	if !ok {
		return errors.New("this network changes nothing in place")
	}
	if err := c.leaveNetworks(ctx, m); err != nil {
		return err
	}
	if err := c.joinNetworks(ctx, host, m); err != nil {
		return err
	}
	if err := c.savePlace(); err != nil {
		return err
	}
	if err := c.movePorts(ctx, host); err != nil {
		return err
	}
	if err := c.writeFiles(); err != nil {
		return err
	}
	if c.place.quiet != nil {
		c.place.quiet()
		c.place.quiet = nil
	}
	if len(c.place.Endpoints) == 0 {
		return nil
	}
	return c.resolve(c.k.ctx)
}

// leaveNetworks takes the container off the networks its record does not name.
func (c *container) leaveNetworks(ctx context.Context, m mover) error {
	for i := 0; i < len(c.place.Endpoints); {
		ep := c.place.Endpoints[i]
		if slices.ContainsFunc(c.rec.Spec.Endpoints, func(e engine.EndpointSpec) bool { return e.Network == ep.Network }) {
			i++
			continue
		}
		if err := c.unpublishFrom(ctx, ep.Network); err != nil {
			return err
		}
		if err := m.Disconnect(ctx, c.place.ns, ep); err != nil {
			return err
		}
		c.place.Endpoints = slices.Delete(c.place.Endpoints, i, i+1)
		c.place.Pools = slices.Delete(c.place.Pools, i, i+1)
		c.place.Pools6 = slices.Delete(c.place.Pools6, i, i+1)
		if err := c.savePlace(); err != nil {
			return err
		}
		c.k.events.tell(engine.Event{Type: "network", Action: "disconnect", Name: ep.Network, ID: c.id,
			Attributes: map[string]string{"container": c.id}})
	}
	return nil
}

// joinNetworks gives the container its place on every network of its record:
// an endpoint that is there gets its names, a missing one is made.
func (c *container) joinNetworks(ctx context.Context, host Network, m mover) error {
	old := c.place.placeRecord
	now := placeRecord{Publications: old.Publications}
	gateway := gatewayOf(c.rec.Spec.Endpoints)
	for i, want := range c.rec.Spec.Endpoints {
		n, err := c.k.stand(ctx, want.Network)
		if err != nil {
			return err
		}
		ep, err := c.wanted(want, old.Endpoints)
		if err != nil {
			return err
		}
		ep.Gateway = i == gateway
		if at := slices.IndexFunc(old.Endpoints, func(o netdns.Endpoint) bool { return o.Network == want.Network }); at >= 0 {
			ep, err = c.stayOn(ctx, m, old.Endpoints[at], ep)
		} else if ep, err = host.Attach(ctx, c.place.ns, ep); err == nil {
			c.k.events.tell(engine.Event{Type: "network", Action: "connect", Name: ep.Network, ID: c.id,
				Attributes: map[string]string{"container": c.id}})
		}
		if err != nil {
			return err
		}
		now.Endpoints = append(now.Endpoints, ep)
		now.Outside = now.Outside || !n.Internal
		now.Pools = append(now.Pools, poolWith(n.Pools, ep.IPv4))
		now.Pools6 = append(now.Pools6, poolWith(n.Pools, ep.IPv6))
	}
	c.place.placeRecord = now
	return nil
}

// stayOn changes what can be changed of an endpoint while it is used.
func (c *container) stayOn(ctx context.Context, m mover, was, want netdns.Endpoint) (netdns.Endpoint, error) {
	ep := was
	ep.Names, ep.LinkAliases, ep.Gateway = want.Names, want.LinkAliases, want.Gateway
	if slices.Equal(ep.Names, was.Names) && slices.Equal(ep.LinkAliases, was.LinkAliases) && ep.Gateway == was.Gateway {
		if !ep.Gateway {
			return ep, nil
		}
		return ep, m.Reroute(ctx, c.place.ns, ep)
	}
	if err := m.Rename(ctx, ep); err != nil || !ep.Gateway {
		return ep, err
	}
	return ep, m.Reroute(ctx, c.place.ns, ep)
}

// unpublishFrom takes back the ports that lead to the container through a
// network.
func (c *container) unpublishFrom(ctx context.Context, network string) error {
	return c.dropPorts(ctx, func(p netdns.Publication) bool { return p.Network == network })
}

// dropPorts takes back published ports and their reservations.
func (c *container) dropPorts(ctx context.Context, which func(netdns.Publication) bool) error {
	var gone []netdns.Publication
	for _, p := range c.place.Publications {
		if which(p) {
			gone = append(gone, p)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	host, err := c.k.network()
	if err != nil {
		return err
	}
	if err := host.Unpublish(ctx, gone); err != nil {
		return err
	}
	c.place.Publications = slices.DeleteFunc(slices.Clone(c.place.Publications), which)
	c.place.ports = slices.DeleteFunc(c.place.ports, func(f *os.File) bool {
		at, protocol := reserved(f)
		for _, p := range gone {
			if at.Port() == p.HostPort && protocol == p.Protocol && (!p.HostIP.IsValid() || p.HostIP == at.Addr()) {
				f.Close()
				return true
			}
		}
		return false
	})
	return errors.Join(c.keepPorts(), c.savePlace())
}

// keepPorts puts the reservations into the fd store, and those alone.
func (c *container) keepPorts() error {
	_ = c.k.o.Keep.Drop(c.kept("port/"))
	for i, f := range c.place.ports {
		if err := c.k.o.Keep.Put(c.kept("port/"+strconv.Itoa(i)), f); err != nil {
			return err
		}
	}
	return nil
}

// reserved is the address and protocol that a reservation holds.
func reserved(f *os.File) (at netip.AddrPort, protocol string) {
	_ = withFD(f, func(fd int) error {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		switch a := sa.(type) {
		case *unix.SockaddrInet4:
			at = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
		case *unix.SockaddrInet6:
			at = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
		}
		n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		protocol = map[int]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[n]
		return err
	})
	return at, protocol
}

// movePorts publishes what the record asks for and takes back the rest. A port
// that stays is not touched.
func (c *container) movePorts(ctx context.Context, host Network) error {
	var wanted []netdns.Publication
	if len(c.place.Endpoints) > 0 {
		var err error
		if wanted, err = c.publications(); err != nil {
			return err
		}
	}
	stays := func(p netdns.Publication) bool {
		return slices.ContainsFunc(wanted, func(w netdns.Publication) bool { return fulfils(p, w) })
	}
	if err := c.dropPorts(ctx, func(p netdns.Publication) bool { return !stays(p) }); err != nil {
		return err
	}
	wanted = slices.DeleteFunc(wanted, func(w netdns.Publication) bool {
		return slices.ContainsFunc(c.place.Publications, func(p netdns.Publication) bool { return fulfils(p, w) })
	})
	if len(wanted) == 0 {
		return nil
	}
	pubs, files, err := host.Publish(ctx, wanted)
	if err != nil {
		return taken(err)
	}
	c.place.Publications = append(c.place.Publications, pubs...)
	c.place.ports = append(c.place.ports, files...)
	return errors.Join(c.keepPorts(), c.savePlace())
}

// fulfils says whether a publication that stands is what is wanted.
func fulfils(p, w netdns.Publication) bool {
	port := w.HostPort == 0 || p.HostPort >= w.HostPort && p.HostPort <= max(w.HostPort, w.HostPortEnd)
	return port && p.HostIP == w.HostIP && p.ContainerPort == w.ContainerPort && p.Protocol == w.Protocol &&
		p.Network == w.Network && p.To == w.To && p.To6 == w.To6
}

// taken marks the error of a port that somebody else has.
func taken(err error) error {
	var coded interface{ Code() string }
	if errors.As(err, &coded) {
		return err
	}
	return &refusal{"port-taken", err}
}

// inUse refuses to take a network away while a container that lives is on it.
// What a dead container left there goes with the network.
func (k *Keeper) inUse(name string) error {
	ids, err := store.Names(k.o.Layout.Network(name) + "/endpoints")
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, rec, state, err := k.other(id)
		if err != nil || state == nil || state.PID == 0 {
			continue
		}
		return refuse("conflict", "network %s has active endpoints: container %s of project %s", name, rec.Name, rec.Project)
	}
	return nil
}

// tidy makes a namespace that was kept, because others live in it, fit for the
// container's next start.
func (c *container) tidy(ctx context.Context) error {
	if !c.shared() {
		return nil
	}
	host, err := c.k.network()
	if err != nil {
		return err
	}
	t, ok := host.(interface {
		Tidy(ctx context.Context, ns *os.File, eps []netdns.Endpoint) error
	})
	if !ok {
		return nil
	}
	return t.Tidy(ctx, c.place.ns, c.place.Endpoints)
}
