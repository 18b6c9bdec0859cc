package keeper

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
)

// A place is where a container is on the network, and what serves it there.
type place struct {
	placeRecord
	ns       *os.File   // nil: the host's, or none yet
	ports    []*os.File // reservations
	came     *queue     // whom the ports came with; nil: nobody waited there
	udp, tcp *os.File   // the resolver's sockets
	quiet    func()     // ends the resolver
}

// A placeRecord is what the next keeper must know of a place. It lies in the
// run directory: a reboot makes it void.
type placeRecord struct {
	Endpoints    []netdns.Endpoint    `json:"endpoints,omitempty"`
	Pools        []netdns.Pool        `json:"pools,omitempty"` // the first of each endpoint's network
	Pools6       []netdns.Pool        `json:"pools6,omitempty"`
	Publications []netdns.Publication `json:"publications,omitempty"`
	Outside      bool                 `json:"outside,omitempty"` // one of the networks leads out
}

func (c *container) placePath() string {
	return filepath.Join(c.k.o.Layout.RunProject(c.k.o.Project), "net", c.id)
}

func (c *container) savePlace() error {
	path := c.placePath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return store.WriteUnsynced(path, c.place.placeRecord)
}

// connect gives the container its place: a namespace, endpoints, files for its
// resolver, names, published ports. What a restart kept is kept.
func (c *container) connect(ctx context.Context) error {
	mode := c.rec.Spec.NetworkMode
	other, shared := strings.CutPrefix(mode, "container:")
	switch {
	case mode == "host":
		return c.writeFiles()
	case shared:
		return c.joinPlace(other)
	}
	if c.place.ns != nil && c.ready == nil {
		return c.tidy(ctx) // made in the back-off, or kept for those who share it
	}
	if err := c.sandbox(ctx); err != nil {
		return err
	}
	if err := c.writeFiles(); err != nil {
		return err
	}
	if mode == "none" || len(c.place.Endpoints) == 0 {
		return nil
	}
	if err := c.resolve(ctx); err != nil {
		return err
	}
	return c.publishPorts(ctx)
}

// namespace makes the container's network namespace, unless it stands by in it.
func (c *container) namespace(ctx context.Context) (Network, error) {
	host, err := c.k.network()
	if err != nil || c.place.ns != nil {
		return host, err
	}
	if c.place.ns, err = host.Sandbox(ctx); err != nil {
		return host, err
	}
	return host, c.k.o.Keep.Put(c.kept("netns"), c.place.ns)
}

// sandbox makes the namespace and attaches it to every network.
func (c *container) sandbox(ctx context.Context) error {
	host, err := c.namespace(ctx)
	if err != nil {
		return err
	}
	if c.rec.Spec.NetworkMode == "none" {
		return nil
	}
	before := c.place.Endpoints
	c.place.placeRecord = placeRecord{Publications: c.place.Publications}
	gateway := gatewayOf(c.rec.Spec.Endpoints)
	for i, want := range c.rec.Spec.Endpoints {
		n, err := c.k.stand(ctx, want.Network)
		if err != nil {
			return err
		}
		ep, err := c.wanted(want, before)
		if err != nil {
			return err
		}
		ep.Gateway = i == gateway
		if ep, err = host.Attach(ctx, c.place.ns, ep); err != nil {
			return err
		}
		c.place.Endpoints = append(c.place.Endpoints, ep)
		c.place.Outside = c.place.Outside || !n.Internal
		c.place.Pools = append(c.place.Pools, poolWith(n.Pools, ep.IPv4))
		c.place.Pools6 = append(c.place.Pools6, poolWith(n.Pools, ep.IPv6))
	}
	return c.savePlace()
}

// gatewayOf is the endpoint through which the default route goes: that of the
// highest priority, the first of several.
func gatewayOf(eps []engine.EndpointSpec) int {
	best := 0
	for i, e := range eps {
		if e.GWPriority > eps[best].GWPriority {
			best = i
		}
	}
	return best
}

func poolWith(pools []netdns.Pool, a netip.Addr) netdns.Pool {
	for _, p := range pools {
		if a.IsValid() && p.Subnet.Contains(a) {
			return p
		}
	}
	return netdns.Pool{}
}

// wanted is the endpoint to ask for: the record's, with the addresses that the
// container had before.
func (c *container) wanted(want engine.EndpointSpec, before []netdns.Endpoint) (ep netdns.Endpoint, err error) {
	ep = netdns.Endpoint{Network: want.Network, Container: c.id, Project: c.rec.Project, Name: c.name(),
		Names: c.names(want), LinkLocal: want.LinkLocal, MAC: want.MAC, Interface: want.Interface,
		LinkAliases: want.LinkAliases, Sysctls: want.DriverOpts[netdns.OptSysctls]}
	if ep.Interface == "" {
		ep.Interface = want.DriverOpts[netdns.OptInterface]
	}
	for _, b := range before {
		if b.Network == want.Network {
			ep.IPv4, ep.IPv6, ep.MAC, ep.Since = b.IPv4, b.IPv6, b.MAC, b.Since
		}
	}
	if want.IPv4 != "" {
		if ep.IPv4, err = netip.ParseAddr(want.IPv4); err != nil {
			return ep, fmt.Errorf("address of %s on %s: %w", c.name(), want.Network, err)
		}
	}
	if want.IPv6 != "" {
		if ep.IPv6, err = netip.ParseAddr(want.IPv6); err != nil {
			return ep, fmt.Errorf("address of %s on %s: %w", c.name(), want.Network, err)
		}
	}
	return ep, nil
}

// names are what the container answers to beside its own name.
func (c *container) names(want engine.EndpointSpec) []string {
	names := slices.Clone(want.Aliases)
	labels := c.rec.Spec.Labels
	s := labels["com.docker.compose.service"]
	named := want.ByHand || slices.Contains(want.Aliases, s) // see use_service_name_alias
	if s != "" && named && labels["com.docker.compose.oneoff"] != "True" {
		names = append(names, s, s+"."+c.rec.Project)
	}
	names = append(names, short(c.id))
	slices.Sort(names)
	return slices.Compact(names)
}

// resolve serves the container's names on sockets inside its namespace.
func (c *container) resolve(ctx context.Context) (err error) {
	r := c.k.o.Resolver
	if r == nil {
		return nil
	}
	if c.place.udp == nil {
		if c.place.udp, c.place.tcp, err = r.Open(c.place.ns); err != nil {
			return fmt.Errorf("open resolver of %s: %w", c.name(), err)
		}
		if err := c.k.o.Keep.PutAll(map[string]*os.File{c.kept("dnsu"): c.place.udp, c.kept("dnst"): c.place.tcp}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	who := Asker{Container: c.rec, Endpoints: slices.Clone(c.place.Endpoints), NetNS: c.place.ns, Internal: !c.place.Outside}
	udp, tcp := c.place.udp, c.place.tcp
	go func() {
		defer close(done)
		if err := r.Serve(ctx, udp, tcp, who); err != nil && ctx.Err() == nil {
			c.k.log("container %s: resolver: %v", c.name(), err)
		}
	}()
	c.place.quiet = func() { cancel(); <-done }
	return nil
}

// publishPorts reserves the host's ports and leads them here.
func (c *container) publishPorts(ctx context.Context) error {
	if len(c.rec.Spec.Ports) == 0 || len(c.place.ports) > 0 {
		return nil
	}
	pubs, err := c.publications()
	if err != nil {
		return err
	}
	host, err := c.k.network()
	if err != nil {
		return err
	}
	var waiting []*os.File
	if q := c.k.dequeue(c.id); q != nil {
		waiting, c.place.came = q.ports, q
	}
	pubs, ports, err := host.Publish(ctx, pubs, waiting...)
	if err != nil {
		return taken(err)
	}
	c.place.Publications, c.place.ports = pubs, ports
	for i, f := range ports {
		if err := c.k.o.Keep.Put(c.kept("port/"+strconv.Itoa(i)), f); err != nil {
			return err
		}
	}
	return c.savePlace()
}

// publications are the record's ports as they are asked for: of a range on the
// host the first free one is taken.
func (c *container) publications() ([]netdns.Publication, error) {
	ep := c.place.Endpoints[gatewayOf(c.rec.Spec.Endpoints)]
	standing, err := c.k.stand(c.k.ctx, ep.Network)
	if err != nil {
		return nil, err
	}
	var pubs []netdns.Publication
	for _, p := range c.rec.Spec.Ports {
		var ip netip.Addr
		host := cmp.Or(p.HostIP, standing.Options[netdns.OptBind])
		if host != "" {
			var err error
			if ip, err = netip.ParseAddr(strings.Trim(host, "[]")); err != nil {
				return nil, fmt.Errorf("publish port %d of %s: %w", p.ContainerPort, c.name(), err)
			}
		}
		pubs = append(pubs, netdns.Publication{HostIP: ip, HostPort: p.HostPort, HostPortEnd: p.HostPortEnd,
			ContainerPort: p.ContainerPort, Protocol: cmp.Or(p.Protocol, "tcp"),
			Container: c.id, Network: ep.Network, To: ep.IPv4, To6: ep.IPv6})
	}
	return pubs, nil
}

// endpoints is the place in the words of the state.
func (p *place) endpoints() []engine.Endpoint {
	var eps []engine.Endpoint
	for i, e := range p.Endpoints {
		out := engine.Endpoint{Network: e.Network, MAC: e.MAC, Interface: e.Interface}
		if e.IPv4.IsValid() {
			out.IPv4, out.Gateway = withBits(e.IPv4, p.Pools[i])
		}
		if e.IPv6.IsValid() {
			out.IPv6, out.Gateway6 = withBits(e.IPv6, p.Pools6[i])
		}
		eps = append(eps, out)
	}
	return eps
}

func withBits(a netip.Addr, p netdns.Pool) (address, gateway string) {
	if !p.Subnet.IsValid() {
		return a.String(), ""
	}
	if p.Gateway.IsValid() {
		gateway = p.Gateway.String()
	}
	return netip.PrefixFrom(a, p.Subnet.Bits()).String(), gateway
}

// bound is the published ports in the words of the state.
func (p *place) bound() []engine.Bound {
	var out []engine.Bound
	for _, pub := range p.Publications {
		b := engine.Bound{HostPort: pub.HostPort, ContainerPort: pub.ContainerPort, Protocol: pub.Protocol}
		if pub.HostIP.IsValid() {
			b.HostIP = pub.HostIP.String()
		}
		out = append(out, b)
	}
	return out
}
