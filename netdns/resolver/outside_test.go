package resolver

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/kernel"
)

// outsideServer is a name server in namespace ns; it answers A with addr.
type outsideServer struct {
	asked atomic.Int64
	rcode atomic.Int64
	hold  atomic.Bool // take questions, answer nothing
	big   atomic.Bool // answer in UDP with TC
	at    netip.AddrPort
	ports sync.Map // the askers' ports
	ids   sync.Map // and ids
}

func newOutside(t testing.TB, ns *os.File, listen, addr string) *outsideServer {
	t.Helper()
	o := &outsideServer{at: netip.MustParseAddrPort(listen)}
	var pc net.PacketConn
	var l net.Listener
	must(t, netns.In(ns, func() (err error) {
		if pc, err = net.ListenPacket("udp", listen); err != nil {
			return err
		}
		l, err = net.Listen("tcp", listen)
		return err
	}))
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		o.ids.Store(q.Id, true)
		o.ports.Store(w.RemoteAddr().String(), true)
		o.asked.Add(1) // who sees this may look at the others
		if o.hold.Load() {
			return
		}
		r := new(dns.Msg).SetReply(q)
		r.Rcode = int(o.rcode.Load())
		if w.RemoteAddr().Network() == "udp" && o.big.Load() {
			r.Truncated = true
		} else if r.Rcode == 0 && q.Question[0].Qtype == dns.TypeA {
			h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 77}
			r.Answer = append(r.Answer, &dns.A{Hdr: h, A: net.ParseIP(addr)})
		}
		_ = w.WriteMsg(r)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return o
}

func TestTheRestIsAskedOutside(t *testing.T) {
	host := kernel.Namespace(t)
	one := newOutside(t, host, "127.0.0.1:53", "192.0.2.1")
	two := newOutside(t, host, "127.0.0.2:53", "192.0.2.2")
	conf := t.TempDir() + "/resolv.conf"
	configure := func(text string) { t.Helper(); must(t, os.WriteFile(conf, []byte(text), 0o644)) }
	configure("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, HostConf: conf, HostNS: host})

	expect(t, "outside name", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.1")
	r := b.ask("wWw.example.org", dns.TypeA)
	expect(t, "0x20 through the forwarder", r.Question[0].Name, "wWw.example.org.")
	if r.Answer[0].Header().Ttl != 77 {
		t.Errorf("ttl of an outside answer: got %d, want 77", r.Answer[0].Header().Ttl)
	}
	asked := one.asked.Load()
	expect(t, "single label", said(b.ask("unknown", dns.TypeA)), "NXDOMAIN")
	if one.asked.Load() != asked {
		t.Error("a single label was asked outside")
	}
	configure("nameserver 127.0.0.2\noptions timeout:30\n")
	expect(t, "after resolv.conf changed", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.2")

	const both = "nameserver 127.0.0.1\nnameserver 127.0.0.2\n"
	configure(both + "options timeout:30 attempts:1\n#\n")
	one.rcode.Store(dns.RcodeServerFailure)
	expect(t, "failing server is passed over", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.2")
	one.rcode.Store(dns.RcodeNameError)
	expect(t, "NXDOMAIN is an answer", said(b.ask("www.example.org", dns.TypeA)), "NXDOMAIN")
	one.rcode.Store(0)
	one.hold.Store(true)
	configure(both + "options timeout:1 attempts:5\n") // the other may be late, too, on a busy machine
	begin := time.Now()
	expect(t, "silent server", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.2")
	if d := time.Since(begin); d < 900*time.Millisecond || d >= kernel.Promptly(5*time.Second) {
		t.Errorf("failover took %s, want the configured second and not the usual five", d)
	}
	configure(both + "options timeout:30 attempts:1\n##\n")
	two.big.Store(true)
	one.hold.Store(false)
	one.big.Store(true)
	if r := b.ask("www.example.org", dns.TypeA); !r.Truncated {
		t.Error("truncation was not passed on")
	}
	tcp := b.exchange("tcp", new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA))
	expect(t, "over TCP", said(tcp), "192.0.2.1")
}

func TestOwnServersAreAskedFromTheContainer(t *testing.T) {
	b := newBox(t, Config{})
	b.halt()
	own := newOutside(t, b.ns, "127.0.0.5:53", "192.0.2.5")
	b.serve(Config{Networks: []string{"n"}, Servers: []netip.AddrPort{own.at}, NS: b.ns, Timeout: patience})
	expect(t, "dns: server", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.5")
}

func TestInternalNetworksAskNobody(t *testing.T) {
	host := kernel.Namespace(t)
	o := newOutside(t, host, "127.0.0.1:53", "192.0.2.1")
	conf := t.TempDir() + "/resolv.conf"
	must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o644))
	b := newBox(t, Config{Networks: []string{"n"}, Internal: true, HostConf: conf, HostNS: host})
	for i := range 1000 { // CVE-2024-29018
		expect(t, "random name", said(b.ask(fmt.Sprintf("x%d.example.org", i), dns.TypeA)), "NXDOMAIN")
	}
	if n := o.asked.Load(); n != 0 {
		t.Errorf("%d questions of an internal network were asked outside", n)
	}
}

func TestFloodOutsideLeavesLocalAnswersAlone(t *testing.T) {
	host := kernel.Namespace(t)
	o := newOutside(t, host, "127.0.0.1:53", "192.0.2.1")
	o.hold.Store(true)
	b := newBox(t, Config{})
	b.halt()
	b.serve(Config{Project: "p", Networks: []string{"n"}, Servers: []netip.AddrPort{o.at}, NS: host, Timeout: time.Hour, Attempts: 1})
	b.put(endpoint("n", "p", "db", "10.0.0.2"))
	c := b.dial("udp")
	defer c.Close()
	flood := func(i int) {
		must(t, c.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("x%d.example.org.", i), dns.TypeA)))
	}
	for i := 0; i < mostAsking; i += 16 { // no more at once than a socket holds for a server that is late
		for j := range 16 {
			flood(i + j)
		}
		b.until("the flood waits outside", func() bool { return len(outside) == i+16 })
	}
	for i := range 200 { // there is no place for more
		flood(mostAsking + i)
		r, err := c.ReadMsg()
		must(t, err)
		expect(t, "one too many", said(r), "SERVFAIL")
	}
	for range 100 {
		expect(t, "local name in a flood", said(b.ask("db", dns.TypeA)), "10.0.0.2")
	}
	if n := len(outside); n != mostAsking {
		t.Errorf("%d questions are asked outside, want %d that are not answered yet", n, mostAsking)
	}
	b.halt() // nothing hangs on
	if n := len(outside); n != 0 {
		t.Errorf("%d places outside are still taken", n)
	}
}

func TestForgedAnswersAreNotTaken(t *testing.T) {
	q := &query{}
	sent, err := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA).Pack()
	must(t, err)
	must(t, q.parse(sent))
	for what, change := range map[string]func(*dns.Msg){
		"another id":       func(m *dns.Msg) { m.Id++ },
		"another name":     func(m *dns.Msg) { m.Question[0].Name = "www.example.com." },
		"another type":     func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		"no question":      func(m *dns.Msg) { m.Question = nil },
		"two questions":    func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"a query, no more": func(m *dns.Msg) { m.Response = false },
	} {
		m := new(dns.Msg)
		must(t, m.Unpack(sent))
		m.Response = true
		if b, _ := m.Pack(); !answers(b, sent, q) {
			t.Fatal("the true answer is not taken")
		}
		change(m)
		b, err := m.Pack()
		must(t, err)
		if answers(b, sent, q) {
			t.Errorf("%s: taken for the answer", what)
		}
	}
}
