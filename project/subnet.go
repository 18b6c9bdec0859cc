package project

import (
	"maps"
	"net/netip"
	"slices"
)

// A Subnet is a range of addresses that the files fix for a network.
type Subnet struct {
	Network string // the project's own name for it
	Prefix  netip.Prefix
}

// Subnets are the ranges fixed for the networks that are the project's own, in
// the order of the networks' names.
func (p *Project) Subnets() []Subnet {
	var out []Subnet
	for _, key := range slices.Sorted(maps.Keys(p.Networks)) {
		n := p.Networks[key]
		if n.External {
			continue
		}
		for _, pool := range n.Ipam.Config {
			if prefix, err := netip.ParsePrefix(pool.Subnet); err == nil {
				out = append(out, Subnet{key, prefix.Masked()})
			}
		}
	}
	return out
}

// MoveSubnet gives a network another range of the same size in the place of a
// fixed one. Every address of it that the files have, of gateways, ranges,
// services, extra_hosts and dns, keeps its place in the range.
func (p *Project) MoveSubnet(s Subnet, to netip.Prefix) {
	moved := func(text *string) { *text = move(*text, s.Prefix, to) }
	for _, pool := range p.Networks[s.Network].Ipam.Config {
		if prefix, err := netip.ParsePrefix(pool.Subnet); err != nil || prefix.Masked() != s.Prefix {
			continue
		}
		pool.Subnet = to.String()
		moved(&pool.Gateway)
		if r, err := netip.ParsePrefix(pool.IPRange); err == nil {
			if a, err := netip.ParseAddr(move(r.Addr().String(), s.Prefix, to)); err == nil {
				pool.IPRange = netip.PrefixFrom(a, r.Bits()).String()
			}
		}
		for name, a := range pool.AuxiliaryAddresses {
			pool.AuxiliaryAddresses[name] = move(a, s.Prefix, to)
		}
	}
	for _, service := range p.withJobs() {
		if at := service.Networks[s.Network]; at != nil {
			moved(&at.Ipv4Address)
			moved(&at.Ipv6Address)
		}
		for _, addresses := range service.ExtraHosts {
			for i := range addresses {
				moved(&addresses[i])
			}
		}
		for i := range service.DNS {
			moved(&service.DNS[i])
		}
	}
}

// move gives an address of one range its place in another; whatever else a text
// is stays as it is.
func move(text string, from, to netip.Prefix) string {
	a, err := netip.ParseAddr(text)
	if err != nil || !from.Contains(a) {
		return text
	}
	b, net := a.AsSlice(), to.Addr().AsSlice()
	for i := range b {
		host := byte(0xff)
		if bits := to.Bits() - 8*i; bits >= 8 {
			host = 0
		} else if bits > 0 {
			host >>= bits
		}
		b[i] = net[i]&^host | b[i]&host
	}
	out, _ := netip.AddrFromSlice(b)
	return out.String()
}
