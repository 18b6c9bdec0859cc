package resolver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/tests/records"
)

// still is a server without sockets, over endpoints that do not change.
func still() *server {
	z := newZone()
	z.put("c1", netdns.Endpoint{Name: "web-1", Project: "p", Names: []string{"web"}, IPv4: netip.MustParseAddr("10.0.0.2"), IPv6: netip.MustParseAddr("fd00::2")})
	z.put("c2", netdns.Endpoint{Name: "web-2", Project: "p", Names: []string{"web"}, IPv4: netip.MustParseAddr("10.0.0.3")})
	d := &Directory{rec: &records.Files{Root: "/nowhere"}, zones: map[string]*zone{"n": z}}
	return &server{c: Config{Project: "p", Networks: []string{"n"}, Directory: d}}
}

// What a container may send: any bytes. No answer may be malformed, too long,
// or to another question.
func FuzzQuery(f *testing.F) {
	for _, name := range []string{"web.", "WEB-1.", "web.n.", "a.b.c.", ".", "2.0.0.10.in-addr.arpa.", "localhost."} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeANY} {
			m := new(dns.Msg).SetQuestion(name, kind)
			b, _ := m.Pack()
			f.Add(b)
			m.SetEdns0(1232, true)
			b, _ = m.Pack()
			f.Add(b)
		}
	}
	s := still()
	f.Fuzz(func(t *testing.T, in []byte) {
		var q query
		out, ok := s.quick(&q, in, make([]byte, 0, mostUDP))
		if !ok {
			if q.question == nil {
				t.Fatal("a question to forward that is none")
			}
			return
		}
		if out == nil {
			return
		}
		if len(out) > q.size {
			t.Fatalf("%d octets for a client that takes %d", len(out), q.size)
		}
		var m dns.Msg
		if err := m.Unpack(out); err != nil {
			// miekg reads names more strictly than RFC 1035; what we echo is the client's.
			var asked dns.Msg
			if asked.Unpack(in) == nil {
				t.Fatalf("answer %x: %v", out, err)
			}
			return
		}
		if !m.Response || out[0] != in[0] || out[1] != in[1] {
			t.Fatalf("not an answer to the question: %v", &m)
		}
	})
}

// What a server outside may send: any bytes. Nothing is taken for an answer
// that has another id or question, and what is passed on fits the client.
func FuzzAnswer(f *testing.F) {
	sent, _ := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA).Pack()
	var q query
	if err := q.parse(sent); err != nil {
		f.Fatal(err)
	}
	r := new(dns.Msg)
	_ = r.Unpack(sent)
	r.Response = true
	b, _ := r.Pack()
	f.Add(b)
	f.Add(b[:headerSize])
	f.Add(append(b, make([]byte, mostUDP)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		if !answers(in, sent, &q) {
			return
		}
		if in[0] != sent[0] || in[1] != sent[1] || in[2]&0x80 == 0 {
			t.Fatalf("taken for the answer: %x", in)
		}
		out := q.passOn(in, q.size)
		if len(out) < headerSize || len(out) > q.size || out[0] != q.msg[0] || out[1] != q.msg[1] || out[2]&0x80 == 0 {
			t.Fatalf("passed on, to a client that takes %d octets: %x", q.size, out)
		}
	})
}
