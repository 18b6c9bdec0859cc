package firewall

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// sets are the parts of the table whose elements come and go.
type sets struct {
	enter, leave       *nftables.Set // link name to the chain of its network
	internal           *nftables.Set // link names
	subnets4, subnets6 *nftables.Set
	source4, source6   *nftables.Set // subnet to the chain that masquerades it
	port4, port6       *nftables.Set // address, protocol, port to container
	any4, any6         *nftables.Set // protocol, port to container
}

func (t *Table) sets() sets {
	id := uint32(0)
	set := func(name string, key nftables.SetDatatype, change func(*nftables.Set)) *nftables.Set {
		id++
		s := &nftables.Set{Table: t.t, ID: id, Name: name, KeyType: key, KeyByteOrder: binaryutil.BigEndian}
		change(s)
		return s
	}
	to := func(data nftables.SetDatatype) func(*nftables.Set) {
		return func(s *nftables.Set) { s.IsMap, s.DataType = true, data }
	}
	interval := func(s *nftables.Set) { s.Interval = true }
	between := func(s *nftables.Set) { s.Interval, s.IsMap, s.DataType = true, true, nftables.TypeVerdict }
	name, v4, v6 := nftables.TypeIFName, nftables.TypeIPAddr, nftables.TypeIP6Addr
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	concat := nftables.MustConcatSetType
	return sets{
		enter:    set("enter", name, to(nftables.TypeVerdict)),
		leave:    set("leave", name, to(nftables.TypeVerdict)),
		internal: set("internal", name, func(*nftables.Set) {}),
		subnets4: set("subnets4", v4, interval),
		subnets6: set("subnets6", v6, interval),
		source4:  set("source4", v4, between),
		source6:  set("source6", v6, between),
		port4:    set("port4", concat(v4, proto, port), to(concat(v4, port))),
		port6:    set("port6", concat(v6, proto, port), to(concat(v6, port))),
		any4:     set("any4", concat(proto, port), to(concat(v4, port))),
		any6:     set("any6", concat(proto, port), to(concat(v6, port))),
	}
}

func (s sets) all() []*nftables.Set {
	return []*nftables.Set{
		s.enter, s.leave, s.internal, s.subnets4, s.subnets6, s.source4, s.source6,
		s.port4, s.port6, s.any4, s.any6,
	}
}

func (t *Table) addSets(s sets) error {
	for _, set := range s.all() {
		if set.KeyType.Bytes > 4 && set.KeyType.Name != "ifname" && set.KeyType.Name != "ipv6_addr" {
			set.Concatenation = true
		}
		if err := t.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("add set %s: %w", set.Name, err)
		}
	}
	return nil
}

// batch collects elements by set, to be sent as few messages: the kernel
// answers each of them.
type batch map[*nftables.Set][]nftables.SetElement

// network collects what leads to a network's chains.
func (b batch) network(s sets, n Net) {
	to := func(chain string) *expr.Verdict {
		return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain + "_" + n.Bridge}
	}
	add := func(set *nftables.Set, e ...nftables.SetElement) { b[set] = append(b[set], e...) }
	key := ifname(n.Bridge)
	add(s.enter, nftables.SetElement{Key: key, VerdictData: to("enter")})
	add(s.leave, nftables.SetElement{Key: key, VerdictData: to("leave")})
	if n.Internal {
		add(s.internal, nftables.SetElement{Key: key})
	}
	for _, p := range n.Subnets {
		subnets, source := s.subnets4, s.source4
		if p.Addr().Is6() {
			subnets, source = s.subnets6, s.source6
		}
		begin, end := p.Masked().Addr().AsSlice(), nftables.SetElement{Key: after(p), IntervalEnd: true}
		add(subnets, nftables.SetElement{Key: begin}, end)
		add(source, nftables.SetElement{Key: begin, VerdictData: to("from")}, end)
	}
}

// ports collects the elements of published ports.
func (b batch) ports(s sets, ports []Port) error {
	for _, p := range ports {
		proto, ok := protocols[p.Protocol]
		if !ok {
			return fmt.Errorf("publish port %d: protocol %q is not tcp, udp or sctp", p.Port, p.Protocol)
		}
		set, anywhere := s.port4, s.any4
		if p.To.Addr().Is6() {
			set, anywhere = s.port6, s.any6
		}
		var key []byte
		if p.On.IsValid() && !p.On.IsUnspecified() {
			key = p.On.AsSlice()
		} else {
			set = anywhere
		}
		key = append(key, proto, 0, 0, 0, byte(p.Port>>8), byte(p.Port), 0, 0)
		val := append(p.To.Addr().AsSlice(), byte(p.To.Port()>>8), byte(p.To.Port()), 0, 0)
		b[set] = append(b[set], nftables.SetElement{Key: key, Val: val})
	}
	return nil
}

// mostElements keeps a message's list of elements below the 64 KiB that its
// 16-bit length can say.
const mostElements = 400

// send queues the batch as additions or deletions.
func (t *Table) send(s sets, b batch, add bool) error {
	change := t.conn.SetDeleteElements
	if add {
		change = t.conn.SetAddElements
	}
	for _, set := range s.all() {
		for part := range slices.Chunk(b[set], mostElements) {
			if err := change(set, part); err != nil {
				return fmt.Errorf("change set %s: %w", set.Name, err)
			}
		}
	}
	return nil
}

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// ifname is a link name as the kernel compares it, padded to IFNAMSIZ.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// after is the first address behind a prefix: how an interval ends.
func after(p netip.Prefix) []byte {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a.Next().AsSlice()
}

func familyOf(a netip.Addr) family {
	if a.Is6() {
		return ipv6
	}
	return ipv4
}

func inPrefix(f family, offset uint32, p netip.Prefix) []expr.Any {
	mask := make([]byte, f.size)
	for i := range p.Bits() {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return append(address(f, offset),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.size, Mask: mask, Xor: make([]byte, f.size)},
		cmp(p.Masked().Addr().AsSlice(), true))
}
