package cli

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/davit-run/davit/project"
)

// A placedSubnet is where a fixed subnet has ended up.
type placedSubnet struct {
	Network string       `json:"network"` // as the files call it
	Wanted  netip.Prefix `json:"wanted"`
	Subnet  netip.Prefix `json:"subnet"`
}

// moveSubnets puts the copy's subnets in the place of those that the files fix,
// where others have them.
func (s *session) moveSubnets(ctx context.Context) error {
	fixed := s.project.Subnets()
	var taken []netip.Prefix
	if s.placing && len(fixed) > 0 {
		var err error
		if taken, err = s.takenSubnets(ctx); err != nil {
			return err
		}
	}
	var all []placedSubnet
	for _, f := range fixed {
		p := placedSubnet{Network: f.Network, Wanted: f.Prefix, Subnet: f.Prefix}
		had := func(o placedSubnet) bool { return o.Network == p.Network && o.Wanted == p.Wanted }
		if k := slices.IndexFunc(s.copy.Subnets, had); k >= 0 {
			p.Subnet = s.copy.Subnets[k].Subnet
		} else if s.placing {
			p.Subnet = freeSubnet(f, s.name, taken)
		}
		if p.Subnet != p.Wanted {
			s.project.MoveSubnet(f, p.Subnet)
		}
		taken = append(taken, p.Subnet)
		all = append(all, p)
	}
	s.copy.Subnets = all
	return nil
}

// takenSubnets are those of all networks but the copy's own, of other copies,
// and of the host's routes.
func (s *session) takenSubnets(ctx context.Context) ([]netip.Prefix, error) {
	var taken []netip.Prefix
	networks, err := s.engine.AllNetworks(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		view, err := s.engine.ViewNetwork(ctx, n)
		if err != nil {
			return nil, err
		}
		for _, p := range view.Pools {
			taken = append(taken, p.Subnet)
		}
	}
	others, err := s.copies()
	for _, o := range others {
		for _, p := range o.Subnets {
			taken = append(taken, p.Subnet)
		}
	}
	return append(taken, routes()...), err
}

// movedSubnets is where moved subnets are taken from, a range that davit uses for
// networks of its own choice; tried is how many places are looked at.
var movedSubnets = netip.MustParsePrefix("10.128.0.0/9")

const tried = 4096

// freeSubnet returns the subnet that the files ask for, when that is free, else
// the first free one of its size after a place that is always the same for the
// copy's network. A range too large to be moved stays, and the plan says who
// has it.
func freeSubnet(f project.Subnet, name string, taken []netip.Prefix) netip.Prefix {
	free := func(p netip.Prefix) bool {
		return !slices.ContainsFunc(taken, func(o netip.Prefix) bool { return o.Bits() > 0 && o.Overlaps(p) })
	}
	h := fnv.New64a()
	fmt.Fprint(h, name, f.Network, f.Prefix)
	for i := uint64(0); i < tried && !free(f.Prefix); i++ {
		p := nthSubnet(f.Prefix, h.Sum64()+i)
		if p.IsValid() && free(p) {
			return p
		}
	}
	return f.Prefix
}

// nthSubnet is one of the subnets that one may be moved to: of its size, and for
// IPv6 below fd00::/8 (RFC 4193). A range as large as all of them has none.
func nthSubnet(like netip.Prefix, n uint64) netip.Prefix {
	bits := like.Bits()
	if like.Addr().Is4() {
		base := movedSubnets.Addr().As4()
		if bits <= movedSubnets.Bits() {
			return netip.Prefix{}
		}
		at := uint32(n%(1<<(bits-movedSubnets.Bits()))) << (32 - bits)
		binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])|at)
		return netip.PrefixFrom(netip.AddrFrom4(base), bits)
	}
	a := [16]byte{0: 0xfd}
	if bits <= 8 {
		return netip.Prefix{}
	}
	if bits < 64 {
		n <<= 64 - bits
	}
	binary.BigEndian.PutUint64(a[:8], 0xfd<<56|n&(1<<56-1))
	p, err := netip.AddrFrom16(a).Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// routes are the ranges that the host has routes to; none where they cannot be
// read.
func routes() []netip.Prefix {
	var out []netip.Prefix
	four, _ := os.ReadFile("/proc/net/route") // proc_net(5): iface, destination, …, mask, as the machine's words
	for line := range strings.Lines(string(four)) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		to, err1 := strconv.ParseUint(f[1], 16, 32)
		mask, err2 := strconv.ParseUint(f[7], 16, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		var a [4]byte
		binary.NativeEndian.PutUint32(a[:], uint32(to))
		out = append(out, netip.PrefixFrom(netip.AddrFrom4(a), bits.OnesCount32(uint32(mask))))
	}
	six, _ := os.ReadFile("/proc/net/ipv6_route") // destination, prefix length, …
	for line := range strings.Lines(string(six)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		b, err1 := hex.DecodeString(f[0])
		length, err2 := strconv.ParseUint(f[1], 16, 8)
		if a, ok := netip.AddrFromSlice(b); ok && err1 == nil && err2 == nil {
			out = append(out, netip.PrefixFrom(a, int(length)))
		}
	}
	return out
}
