package desired

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// networks are the project's, made or only looked for.
func (b *builder) networks() {
	for _, key := range slices.Sorted(maps.Keys(b.p.Networks)) {
		n := b.p.Networks[key]
		b.checkDriver(n)
		b.out.Networks = append(b.out.Networks, reconcile.Network{
			Network: b.engineNetwork(n), Key: key, External: n.External, Origin: b.origin("networks." + key),
		})
	}
}

// checkDriver refuses a driver that davit does not have: a network of another
// kind than asked for could be open where it must not be.
func (b *builder) checkDriver(n *project.Network) {
	if n.External {
		return
	}
	switch n.Driver {
	case "", "default", "bridge", "macvlan", "ipvlan", "host", "none", "null":
	case "overlay":
		b.wrong("networks."+n.Key+".driver", "use driver bridge: on one host it connects the same services",
			"driver overlay spans several hosts, and davit runs on one")
	default:
		b.wrong("networks."+n.Key+".driver", "use one of bridge, macvlan, ipvlan, host, none", "there is no network driver %q", n.Driver)
	}
}

func (b *builder) engineNetwork(n *project.Network) engine.Network {
	out := engine.Network{
		Name:       n.Name,
		Driver:     n.Driver,
		Internal:   n.Internal,
		Attachable: n.Attachable,
		NoIPv4:     n.EnableIPv4 != nil && !*n.EnableIPv4,
		IPv6:       n.EnableIPv6 != nil && *n.EnableIPv6,
		Options:    n.DriverOpts,
		IPAMDriver: n.Ipam.Driver,
		IPAMOpts:   n.Ipam.Options,
	}
	if out.Driver == "default" {
		out.Driver = ""
	}
	if !n.External {
		out.Project = b.p.Name
		out.Labels = b.resourceLabels(n.Labels, reconcile.LabelNetwork, n.Key, n.Hash)
	}
	for _, pool := range n.Ipam.Config {
		out.IPAM = append(out.IPAM, engine.Pool{
			Subnet: pool.Subnet, Range: pool.IPRange, Gateway: pool.Gateway, Aux: pool.AuxiliaryAddresses,
		})
	}
	return out
}

func (b *builder) resourceLabels(own map[string]string, kind, key, hash string) map[string]string {
	out := maps.Clone(own)
	if out == nil {
		out = map[string]string{}
	}
	out[reconcile.LabelProject] = b.p.Name
	out[kind] = key
	out[reconcile.LabelHash] = hash
	if b.o.Version != "" {
		out[reconcile.LabelPrefix+"version"] = b.o.Version
	}
	return out
}

// network fills in a definition's place in the network.
func (b *builder) network(s *project.Service, spec *engine.Spec) {
	switch mode := s.NetworkMode; {
	case mode == "":
		spec.Endpoints = b.endpoints(s)
	case mode == "none", mode == "host", strings.HasPrefix(mode, "service:"), strings.HasPrefix(mode, "container:"):
		spec.NetworkMode = mode
	case mode == "bridge", mode == "default":
		spec.Endpoints = b.onDefault(s)
	default:
		spec.Endpoints = b.onNamed(s, mode)
	}
	spec.Ports = b.ports(s)
	for _, e := range s.Expose {
		if !strings.Contains(e, "/") {
			e += "/tcp"
		}
		spec.Expose = append(spec.Expose, e)
	}
	spec.DNS, spec.DNSSearch, spec.DNSOptions = s.DNS, s.DNSSearch, s.DNSOpts
	for _, host := range slices.Sorted(maps.Keys(s.ExtraHosts)) {
		for _, ip := range s.ExtraHosts[host] {
			spec.ExtraHosts = append(spec.ExtraHosts, host+":"+ip)
		}
	}
}

// endpoints are a service's places on its networks, highest priority first.
func (b *builder) endpoints(s *project.Service) []engine.EndpointSpec {
	keys := slices.SortedFunc(maps.Keys(s.Networks), func(a, c string) int {
		return cmp.Or(cmp.Compare(priority(s.Networks[c]), priority(s.Networks[a])), cmp.Compare(a, c))
	})
	var out []engine.EndpointSpec
	for i, key := range keys {
		n := b.p.Networks[key]
		if n == nil {
			continue
		}
		e := endpoint(s, s.Networks[key])
		e.Network = n.Name
		if i == 0 && e.MAC == "" {
			e.MAC = s.MacAddress
		}
		out = append(out, e)
	}
	return out
}

func priority(u *project.NetworkUse) int {
	if u == nil {
		return 0
	}
	return u.Priority
}

func endpoint(s *project.Service, u *project.NetworkUse) engine.EndpointSpec {
	e := engine.EndpointSpec{LinkAliases: linkAliases(s)}
	if u == nil {
		e.Aliases = []string{s.Name}
		return e
	}
	if u.UseServiceNameAlias == nil || *u.UseServiceNameAlias {
		e.Aliases = append(e.Aliases, s.Name)
	}
	for _, a := range u.Aliases {
		if !slices.Contains(e.Aliases, a) {
			e.Aliases = append(e.Aliases, a)
		}
	}
	e.IPv4, e.IPv6, e.LinkLocal = u.Ipv4Address, u.Ipv6Address, u.LinkLocalIPs
	e.MAC, e.Interface = u.MacAddress, u.InterfaceName
	e.Priority, e.GWPriority = u.Priority, u.GatewayPriority
	e.DriverOpts = u.DriverOpts
	return e
}

// linkAliases are NAME:ALIAS pairs of links and external_links. A link without
// an alias is the name itself, which resolves anyway.
func linkAliases(s *project.Service) []string {
	var out []string
	for _, l := range slices.Concat(s.Links, s.ExternalLinks) {
		name, alias, ok := strings.Cut(l, ":")
		if ok && alias != "" && alias != name {
			out = append(out, name+":"+alias)
		}
	}
	return out
}

// onDefault stands in for Docker's own bridge: the project's default network.
func (b *builder) onDefault(s *project.Service) []engine.EndpointSpec {
	name := b.p.Name + "_default"
	if n := b.p.Networks["default"]; n != nil {
		name = n.Name
	} else {
		n = &project.Network{Key: "default", Name: name}
		b.addNetwork(reconcile.Network{Network: b.engineNetwork(n), Key: "default"})
	}
	e := endpoint(s, nil)
	e.Network, e.MAC = name, s.MacAddress
	return []engine.EndpointSpec{e}
}

// onNamed joins a network that network_mode names as it is called on the host.
func (b *builder) onNamed(s *project.Service, name string) []engine.EndpointSpec {
	b.addNetwork(reconcile.Network{
		Network: engine.Network{Name: name}, External: true, Key: name,
		Origin: b.origin("services." + s.Name + ".network_mode"),
	})
	e := endpoint(s, nil)
	e.Network, e.MAC = name, s.MacAddress
	return []engine.EndpointSpec{e}
}

func (b *builder) addNetwork(n reconcile.Network) {
	for _, have := range b.out.Networks {
		if have.Name == n.Name {
			return
		}
	}
	b.out.Networks = append(b.out.Networks, n)
}

func (b *builder) ports(s *project.Service) []engine.Port {
	var out []engine.Port
	for i, p := range s.Ports {
		port := engine.Port{HostIP: p.HostIP, ContainerPort: uint16(p.Target), Protocol: p.Protocol}
		if port.Protocol == "" {
			port.Protocol = "tcp"
		}
		first, last, isRange := strings.Cut(p.Published, "-")
		var err error
		if port.HostPort, err = portNumber(first); err == nil && isRange {
			port.HostPortEnd, err = portNumber(last)
		}
		if err != nil || isRange && port.HostPortEnd < port.HostPort || p.Target == 0 || p.Target > 65535 {
			b.wrong("services."+s.Name+".ports."+strconv.Itoa(i), "write [IP:]HOST:CONTAINER[/PROTOCOL], with ports from 1 to 65535",
				"%q to %d is not a pair of ports", p.Published, p.Target)
			continue
		}
		if port.HostPortEnd == port.HostPort {
			port.HostPortEnd = 0
		}
		out = append(out, port)
	}
	return out
}

// portNumber reads a host port; empty means any free one.
func portNumber(s string) (uint16, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}
