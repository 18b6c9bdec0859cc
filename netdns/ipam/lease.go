package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"

	"github.com/davit-run/davit/netdns"
)

// Leases is a network's table of addresses given out, and where the search for
// the next one begins: addresses go round, so that a fresh container does not
// inherit what others remember of a dead one.
type Leases struct {
	Held map[string]string `json:"held"` // address to holder
	Last map[string]string `json:"last,omitempty"`
}

// Want is what a container asks for. Zero addresses mean any.
type Want struct {
	Holder     string // container id
	IPv4, IPv6 netip.Addr
}

// Lease gives the holder one address of each family the network has: the one
// asked for, else the one it holds already, else the next free one. The table
// is written before Lease returns. The caller holds the network's lock.
func Lease(rec netdns.Records, n netdns.Network, w Want) (v4, v6 netip.Addr, err error) {
	t, err := load(rec, n.Name)
	if err != nil {
		return v4, v6, err
	}
	before := maps.Clone(t.Held)
	if v4, err = t.family(n, false, w.Holder, w.IPv4); err != nil {
		return v4, v6, err
	}
	if v6, err = t.family(n, true, w.Holder, w.IPv6); err != nil {
		return v4, v6, err
	}
	if maps.Equal(before, t.Held) {
		return v4, v6, nil
	}
	return v4, v6, rec.Write(key(n.Name), t)
}

// Release gives back whatever the holder has on the network. It is idempotent;
// the caller holds the network's lock.
func Release(rec netdns.Records, network, holder string) error {
	t, err := load(rec, network)
	if err != nil {
		return err
	}
	n := len(t.Held)
	maps.DeleteFunc(t.Held, func(_, h string) bool { return h == holder })
	if len(t.Held) == n {
		return nil
	}
	return rec.Write(key(network), t)
}

// Held returns who holds which address on a network.
func Held(rec netdns.Records, network string) (map[string]string, error) {
	t, err := load(rec, network)
	if err != nil {
		return nil, err
	}
	return t.Held, nil
}

// Forget removes a network's table.
func Forget(rec netdns.Records, network string) error { return rec.Remove(key(network)) }

func key(network string) string { return "networks/" + network + "/leases" }

func load(rec netdns.Records, network string) (*Leases, error) {
	t := &Leases{}
	if err := rec.Read(key(network), t); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read leases of network %s: %w", network, err)
	}
	if t.Held == nil {
		t.Held = map[string]string{}
	}
	if t.Last == nil {
		t.Last = map[string]string{}
	}
	return t, nil
}

func (t *Leases) family(n netdns.Network, ipv6 bool, holder string, want netip.Addr) (netip.Addr, error) {
	pools := Family(n, ipv6)
	if len(pools) == 0 {
		if want.IsValid() {
			return netip.Addr{}, fmt.Errorf("address %s: network %s has no subnet of that family", want, n.Name)
		}
		return netip.Addr{}, nil
	}
	if want.IsValid() {
		t.dropOthers(pools, holder, want)
		return want, t.take(n, pools, holder, want)
	}
	for a, h := range t.Held {
		if addr, err := netip.ParseAddr(a); err == nil && h == holder && addr.Is6() == ipv6 {
			return addr, nil
		}
	}
	return t.next(n, pools, holder)
}

// dropOthers gives back what the holder had before it asked for a fixed address.
func (t *Leases) dropOthers(pools []netdns.Pool, holder string, want netip.Addr) {
	maps.DeleteFunc(t.Held, func(a, h string) bool {
		addr, err := netip.ParseAddr(a)
		return err == nil && h == holder && addr != want && addr.Is6() == want.Is6()
	})
}

func (t *Leases) take(n netdns.Network, pools []netdns.Pool, holder string, want netip.Addr) error {
	for _, p := range pools {
		if !p.Subnet.Contains(want) {
			continue
		}
		if by := reserved(p, want); by != "" {
			return fmt.Errorf("address %s on network %s: is %s", want, n.Name, by)
		}
		if h, ok := t.Held[want.String()]; ok && h != holder {
			return fmt.Errorf("address %s on network %s: held by container %.12s", want, n.Name, h)
		}
		t.Held[want.String()] = holder
		return nil
	}
	return fmt.Errorf("address %s: outside the subnets of network %s (%s)", want, n.Name, subnets(pools))
}

func (t *Leases) next(n netdns.Network, pools []netdns.Pool, holder string) (netip.Addr, error) {
	set := make(allocator.RangeSet, 0, len(pools))
	for _, p := range pools {
		set = append(set, ranged(p))
	}
	if err := set.Canonicalize(); err != nil {
		return netip.Addr{}, fmt.Errorf("subnets of network %s: %w", n.Name, err)
	}
	id := 4
	if pools[0].Subnet.Addr().Is6() {
		id = 6
	}
	got, err := allocator.NewIPAllocator(&set, &table{Leases: t, pools: pools}, id).Get(holder, "", nil)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("network %s has no free address (%s): held by %s", n.Name, subnets(pools), t.who(n))
	}
	a, _ := netip.AddrFromSlice(got.Address.IP)
	return a.Unmap(), nil
}

func (t *Leases) who(n netdns.Network) string {
	var out []string
	for _, a := range slices.Sorted(maps.Keys(t.Held)) {
		if len(out) == 20 {
			out = append(out, fmt.Sprintf("and %d more", len(t.Held)-20))
			break
		}
		out = append(out, fmt.Sprintf("%.12s (%s)", t.Held[a], a))
	}
	return strings.Join(out, ", ")
}

// Family returns a network's pools of one family.
func Family(n netdns.Network, ipv6 bool) []netdns.Pool {
	var out []netdns.Pool
	for _, p := range n.Pools {
		if p.Subnet.Addr().Is6() == ipv6 {
			out = append(out, p)
		}
	}
	return out
}

func subnets(pools []netdns.Pool) string {
	var s []string
	for _, p := range pools {
		s = append(s, p.Subnet.String())
	}
	return strings.Join(s, ", ")
}

// reserved says why an address can be nobody's.
func reserved(p netdns.Pool, a netip.Addr) string {
	switch {
	case a == p.Gateway:
		return "the gateway"
	case a == p.Subnet.Addr():
		return "the subnet's own address"
	case a.Is4() && a == last(p.Subnet):
		return "the broadcast address"
	}
	for name, x := range p.Aux {
		if a == x {
			return "reserved as " + name + " in aux_addresses"
		}
	}
	return ""
}

func ranged(p netdns.Pool) allocator.Range {
	r := allocator.Range{Subnet: types.IPNet(ipNet(p.Subnet)), Gateway: p.Gateway.AsSlice()}
	if p.Range.IsValid() {
		first, end := p.Range.Masked().Addr(), last(p.Range)
		if first == p.Subnet.Addr() {
			first = first.Next()
		}
		if end == last(p.Subnet) && end.Is4() {
			end = end.Prev()
		}
		r.RangeStart, r.RangeEnd = first.AsSlice(), end.AsSlice()
	}
	return r
}

func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// table lets host-local's allocator, which knows how to walk ranges, work on
// our leases: its own store on disk does not sync.
type table struct {
	*Leases
	pools []netdns.Pool
}

func (t *table) Lock() error   { return nil } // the network's lock is held already
func (t *table) Unlock() error { return nil }
func (t *table) Close() error  { return nil }

func (t *table) Reserve(id, _ string, ip net.IP, rangeID string) (bool, error) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false, fmt.Errorf("lease %s: not an address", ip)
	}
	a = a.Unmap()
	for _, p := range t.pools {
		if p.Subnet.Contains(a) && reserved(p, a) != "" {
			return false, nil
		}
	}
	if _, held := t.Held[a.String()]; held {
		return false, nil
	}
	t.Held[a.String()], t.Last[rangeID] = id, a.String()
	return true, nil
}

func (t *table) LastReservedIP(rangeID string) (net.IP, error) {
	a, err := netip.ParseAddr(t.Last[rangeID])
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return a.AsSlice(), nil
}

func (t *table) ReleaseByID(id, _ string) error {
	maps.DeleteFunc(t.Held, func(_, h string) bool { return h == id })
	return nil
}

func (t *table) GetByID(string, string) []net.IP { return nil }
