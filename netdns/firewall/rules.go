package firewall

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// The chains that every packet may meet.
const (
	chainRaw     = "raw"
	chainForward = "forward"
	chainPre     = "prerouting"
	chainOutput  = "output"
	chainPorts   = "ports"
	chainPost    = "postrouting"
)

// family holds what differs between IPv4 and IPv6 in a rule.
type family struct {
	proto    byte   // as in meta nfproto
	source   uint32 // offset of the source address in the header
	dest     uint32
	size     uint32
	loopback []byte // the loopback net, as far as it is compared
}

var (
	ipv4 = family{unix.NFPROTO_IPV4, 12, 16, 4, []byte{127}}
	ipv6 = family{unix.NFPROTO_IPV6, 8, 24, 16, []byte{15: 1}}
)

// base adds the chains and rules that are there however many networks are.
//
// Order matters: raw looks before any address is rewritten, so it sees who
// spoke to a container's address directly, which nobody outside may (Docker 28's
// direct-access filter; CVE-2025-54388); forward lets in only what was
// rewritten by a published port or answers a container.
func (t *Table) base(s sets, guard bool) {
	raw := t.chain(chainRaw, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	// A container must not reach the host's loopback through route_localnet
	// (CVE-2020-8558).
	for _, offset := range []uint32{ipv4.source, ipv4.dest} {
		t.rule(raw, iifnameBegins(t.tag.Bridges(), true), isFamily(ipv4), addressIs(ipv4, offset, ipv4.loopback), verdict(expr.VerdictDrop))
	}
	t.rule(raw, iifname(), lookup(s.enter))
	t.rule(raw, isFamily(ipv4), iifnameIs("lo", false), address(ipv4, ipv4.dest), in(s.subnets4), verdict(expr.VerdictDrop))
	t.rule(raw, isFamily(ipv6), iifnameIs("lo", false), address(ipv6, ipv6.dest), in(s.subnets6), verdict(expr.VerdictDrop))

	forward := t.chain(chainForward, nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	t.rule(forward, oifname(), lookup(s.leave))
	t.rule(forward, iifname(), in(s.internal), verdict(expr.VerdictDrop))
	if guard {
		p := netdns.LinkPrefix + "b"
		t.rule(forward, iifnameBegins(p, false), oifnameBegins(p, false), verdict(expr.VerdictDrop))
	}

	ports := t.chain(chainPorts, "", nil, nil)
	t.publishedRules(s, ports)
	pre := t.chain(chainPre, nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	t.rule(pre, jump(chainPorts))
	out := t.chain(chainOutput, nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	t.rule(out, jump(chainPorts))

	post := t.chain(chainPost, nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	t.rule(post, isFamily(ipv4), oifnameBegins(t.tag.Bridges(), true), addressIs(ipv4, ipv4.source, ipv4.loopback), masquerade())
	t.rule(post, isFamily(ipv4), address(ipv4, ipv4.source), lookup(s.source4))
	t.rule(post, isFamily(ipv6), address(ipv6, ipv6.source), lookup(s.source6))
}

// publishedRules send what is for a published port to its container: first by
// exact address, then, for addresses that are the host's, by port alone. ::1
// is left to a proxy: the kernel has no route_localnet for IPv6, an answer to
// ::1 that comes from a bridge finds no route (rt6_need_strict).
func (t *Table) publishedRules(s sets, c *nftables.Chain) {
	t.rule(c, isFamily(ipv6), addressIs(ipv6, ipv6.dest, ipv6.loopback), verdict(expr.VerdictReturn))
	for _, p := range []struct {
		family
		exact, any *nftables.Set
	}{{ipv4, s.port4, s.any4}, {ipv6, s.port6, s.any6}} {
		t.rule(c, isFamily(p.family), address(p.family, p.dest), protocolAfter(p.size), lookupMap(p.exact), dnat(p.family))
		t.rule(c, isFamily(p.family), localDestination(), protocolAfter(0), lookupMap(p.any), dnat(p.family))
	}
}

// network adds the three chains of a network. Those that are there already are
// emptied first, if again is true.
func (t *Table) network(s sets, n Net, again bool) {
	enter := t.fresh("enter_"+n.Bridge, again)
	for _, p := range n.Subnets {
		f := familyOf(p.Addr())
		t.rule(enter, isFamily(f), inPrefix(f, f.dest, p), verdict(expr.VerdictAccept))
	}

	leave := t.fresh("leave_"+n.Bridge, again)
	t.rule(leave, iifnameIs(n.Bridge, true), verdict(expr.VerdictAccept))
	if !n.Internal {
		t.rule(leave, iifname(), in(s.internal), verdict(expr.VerdictDrop))
		t.rule(leave, ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), verdict(expr.VerdictAccept))
		t.rule(leave, ctStatus(statusDNAT), verdict(expr.VerdictAccept))
	}
	t.rule(leave, verdict(expr.VerdictDrop))

	from := t.fresh("from_"+n.Bridge, again)
	if !n.Internal && !n.Bare {
		t.rule(from, oifnameIs(n.Bridge, false), masquerade())
	}
	t.rule(from, ctStatus(statusDNAT), masquerade()) // hairpin: the answer must come back through here
}

func (t *Table) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Name: name, Table: t.t, Type: kind, Hooknum: hook, Priority: prio})
}

// fresh makes a chain, or empties the one there is.
func (t *Table) fresh(name string, again bool) *nftables.Chain {
	c := t.chain(name, "", nil, nil)
	if again {
		t.conn.FlushChain(c)
	}
	return c
}

func (t *Table) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	t.conn.AddRule(&nftables.Rule{Table: t.t, Chain: c, Exprs: all})
	if t.note != nil {
		t.note[c.Name]++
	}
}

// statusDNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const statusDNAT = 1 << 5

func iifname() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}}
}

func oifname() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}}
}

func iifnameIs(name string, equal bool) []expr.Any {
	return append(iifname(), cmp(ifname(name), equal))
}
func oifnameIs(name string, equal bool) []expr.Any {
	return append(oifname(), cmp(ifname(name), equal))
}

func iifnameBegins(prefix string, equal bool) []expr.Any {
	return append(iifname(), cmp([]byte(prefix), equal))
}

func oifnameBegins(prefix string, equal bool) []expr.Any {
	return append(oifname(), cmp([]byte(prefix), equal))
}

func cmp(data []byte, equal bool) expr.Any {
	op := expr.CmpOpNeq
	if equal {
		op = expr.CmpOpEq
	}
	return &expr.Cmp{Op: op, Register: 1, Data: data}
}

func isFamily(f family) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, cmp([]byte{f.proto}, true)}
}

// address loads a whole address into register 1.
func address(f family, offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}}
}

// addressIs compares the first bytes of an address.
func addressIs(f family, offset uint32, first []byte) []expr.Any {
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(first))}
	return []expr.Any{load, cmp(first, true)}
}

// protocolAfter loads the transport protocol and the destination port into the
// registers behind an address of the given size, as a map's key has them.
func protocolAfter(size uint32) []expr.Any {
	reg := uint32(unix.NFT_REG32_00) + size/4
	if size == 0 {
		reg = unix.NFT_REG32_00
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func localDestination() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		cmp(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL), true),
	}
}

func lookup(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, DestRegister: 0, IsDestRegSet: true}}
}

func lookupMap(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, DestRegister: 1, IsDestRegSet: true}}
}

func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}}
}

// dnat rewrites to the address and port that lookupMap left in the registers.
func dnat(f family) []expr.Any {
	port := uint32(unix.NFT_REG32_00) + f.size/4
	return []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(f.proto),
		RegAddrMin: 1, RegProtoMin: port, Specified: true,
	}}
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func ctState(bits uint32) []expr.Any { return ctBits(expr.CtKeySTATE, bits) }

func ctStatus(bits uint32) []expr.Any { return ctBits(expr.CtKeySTATUS, bits) }

func ctBits(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		cmp(make([]byte, 4), false),
	}
}
