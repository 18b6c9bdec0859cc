package resolver

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// local answers a query if it can be answered here; otherwise it is for the
// outside. The answer lies in buf.
func (s *server) local(q *query, buf []byte, limit int) ([]byte, bool) {
	switch {
	case q.flags()&opcodeMask != 0:
		return q.refuse(buf, dnsmessage.RCodeNotImplemented), true
	case q.edns && q.version != 0:
		return q.refuse(buf, rcodeVers), true
	case q.class != dnsmessage.ClassINET && q.class != dnsmessage.ClassANY:
		return q.refuse(buf, dnsmessage.RCodeRefused), true
	}
	if q.kind == dnsmessage.TypePTR {
		if msg, ok := s.reverse(q, buf, limit); ok {
			return msg, true
		}
	}
	var few [16]record
	name := s.alias(q.name)
	found, ok := s.c.Directory.lookup(name, s.c.Project, s.c.Networks, few[:0])
	if !ok && s.c.Directory.refresh(s.c.Networks) {
		found, ok = s.c.Directory.lookup(name, s.c.Project, s.c.Networks, few[:0])
	}
	if ok {
		return s.known(q, found, buf, limit), true
	}
	if bytes.Equal(q.name, []byte("localhost")) || bytes.HasSuffix(q.name, []byte(".localhost")) {
		here := []record{{v4: netip.AddrFrom4([4]byte{127, 0, 0, 1}), v6: netip.IPv6Loopback()}} // RFC 6761
		return s.known(q, here, buf, limit), true
	}
	if s.c.Internal || single(q) {
		return q.refuse(buf, dnsmessage.RCodeNameError), true
	}
	return nil, false
}

// single says whether a name is one label, which only a container can have. What
// one asks about top-level domains themselves is for the outside.
func single(q *query) bool {
	switch q.kind {
	case dnsmessage.TypeNS, dnsmessage.TypeSOA, 43, 48: // DS and DNSKEY, RFC 4034
		return false
	}
	return len(q.name) > 0 && bytes.IndexByte(q.name, '.') < 0
}

// alias resolves a link: another name for a container, known to this one alone.
func (s *server) alias(name []byte) []byte {
	if len(s.links) == 0 {
		return name
	}
	if to, ok := s.links[string(name)]; ok {
		return to
	}
	return name
}

// known answers from endpoints. A name that has no address of the asked kind is
// a name all the same: no error and no record, not NXDOMAIN.
func (s *server) known(q *query, found []record, buf []byte, limit int) []byte {
	a := q.reply(buf, limit)
	four := q.kind == dnsmessage.TypeA || q.kind == dnsmessage.TypeALL
	six := q.kind == dnsmessage.TypeAAAA || q.kind == dnsmessage.TypeALL
	turn := 0
	if len(found) > 1 {
		turn = int(s.turn.Add(1) % uint32(len(found)))
	}
	for i := range found {
		r := found[(i+turn)%len(found)]
		if four && r.v4.IsValid() {
			a.addr(r.v4)
		}
		if six && r.v6.IsValid() {
			a.addr(r.v6)
		}
	}
	return a.finish(dnsmessage.RCodeSuccess, true)
}

// reverse answers for the addresses of the container's networks.
func (s *server) reverse(q *query, buf []byte, limit int) ([]byte, bool) {
	addr, ok := pointed(string(q.name))
	if !ok {
		return nil, false
	}
	name, ok := s.c.Directory.reverse(addr, s.c.Networks)
	if !ok {
		return nil, false
	}
	data := make([]byte, 0, longName)
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || len(data)+len(label)+2 > longName {
			return nil, false
		}
		data = append(append(data, byte(len(label))), label...)
	}
	a := q.reply(buf, limit)
	a.add(dnsmessage.TypePTR, append(data, 0))
	return a.finish(dnsmessage.RCodeSuccess, true), true
}

// pointed is the address that a name below in-addr.arpa or ip6.arpa stands for.
func pointed(name string) (netip.Addr, bool) {
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(s, ".")
		var b [4]byte
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		for i, p := range parts {
			n, err := strconv.ParseUint(p, 10, 8)
			if err != nil {
				return netip.Addr{}, false
			}
			b[3-i] = byte(n)
		}
		return netip.AddrFrom4(b), true
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		n, err := strconv.ParseUint(s[i*2:i*2+1], 16, 8)
		if err != nil || i < 31 && s[i*2+1] != '.' {
			return netip.Addr{}, false
		}
		at := 31 - i
		b[at/2] |= byte(n) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b), true
}
