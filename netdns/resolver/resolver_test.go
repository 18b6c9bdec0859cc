package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
)

// box is a container's namespace with a resolver, and a directory of endpoints.
type box struct {
	t    testing.TB
	ns   *os.File
	rec  *files
	dir  *Directory
	s    *Sockets
	stop context.CancelFunc
	done chan struct{}
}

func newBox(t testing.TB, c Config) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes network namespaces: needs root")
	}
	b := &box{t: t, ns: newNS(t), rec: newFiles(t)}
	var err error
	b.dir, err = OpenDirectory(b.rec)
	must(t, err)
	b.s, err = Open(b.ns)
	must(t, err)
	t.Cleanup(func() { b.halt(); b.s.Close(); b.dir.Close() })
	b.serve(c)
	return b
}

func newNS(t testing.TB) *os.File {
	t.Helper()
	ns, err := netns.New(func() error {
		l, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	})
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	return ns
}

func (b *box) serve(c Config) {
	b.t.Helper()
	c.Directory = b.dir
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan struct{})
	for _, n := range c.Networks {
		must(b.t, b.dir.Follow(n))
	}
	go func() {
		defer close(b.done)
		if err := Serve(ctx, b.s, c); err != nil {
			b.t.Error(err)
		}
	}()
}

func (b *box) halt() {
	if b.stop != nil {
		b.stop()
		<-b.done
	}
	b.stop = nil
}

// put records an endpoint and waits until the directory knows it.
func (b *box) put(ep netdns.Endpoint) {
	b.t.Helper()
	must(b.t, b.rec.Write(key(ep.Network)+"/"+ep.Container, ep))
	b.until(ep.Name+" is known", func() bool {
		b.dir.mu.RLock()
		defer b.dir.mu.RUnlock()
		z := b.dir.zones[ep.Network]
		return z != nil && z.endpoints[ep.Container].IPv4 == ep.IPv4
	})
}

func (b *box) until(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within 5 s", what)
		}
	}
}

func (b *box) dial(network string) *dns.Conn {
	b.t.Helper()
	var c net.Conn
	must(b.t, netns.In(b.ns, func() (err error) {
		c, err = net.DialTimeout(network, "127.0.0.11:53", time.Second)
		return err
	}))
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return &dns.Conn{Conn: c, UDPSize: 65535}
}

func (b *box) exchange(network string, m *dns.Msg) *dns.Msg {
	b.t.Helper()
	c := b.dial(network)
	defer c.Close()
	must(b.t, c.WriteMsg(m))
	r, err := c.ReadMsg()
	must(b.t, err)
	if r.Id != m.Id || !r.Response {
		b.t.Errorf("answer: id %d for %d, response %v", r.Id, m.Id, r.Response)
	}
	return r
}

func (b *box) ask(name string, kind uint16) *dns.Msg {
	b.t.Helper()
	return b.exchange("udp", new(dns.Msg).SetQuestion(dns.Fqdn(name), kind))
}

// said is an answer in short: the code, or the records' data.
func said(m *dns.Msg) string {
	if m.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[m.Rcode]
	}
	var out []string
	for _, r := range m.Answer {
		switch r := r.(type) {
		case *dns.A:
			out = append(out, r.A.String())
		case *dns.AAAA:
			out = append(out, r.AAAA.String())
		case *dns.PTR:
			out = append(out, r.Ptr)
		default:
			out = append(out, r.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func endpoint(network, project, name, v4 string, names ...string) netdns.Endpoint {
	return netdns.Endpoint{
		Network: network, Project: project, Container: "c-" + project + name, Name: name,
		Names: names, IPv4: netip.MustParseAddr(v4),
	}
}

func TestNamesOfContainers(t *testing.T) {
	b := newBox(t, Config{Project: "p", Networks: []string{"p_default", "shared"}, LinkAliases: []string{"db-1:store"}, Internal: true})
	db := endpoint("p_default", "p", "db-1", "10.0.0.2", "db", "db.p", "0123456789ab")
	db.IPv6 = netip.MustParseAddr("fd00::2")
	b.put(db)
	b.put(endpoint("p_default", "p", "web-1", "10.0.0.3", "web"))
	b.put(endpoint("p_default", "p", "web-2", "10.0.0.4", "web"))
	b.put(endpoint("shared", "other", "db-1x", "10.0.1.2", "db", "only"))
	must(t, b.rec.Write(key("elsewhere")+"/c-far", endpoint("elsewhere", "other", "far", "10.0.2.2")))

	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"db", dns.TypeA, "10.0.0.2"}, // the own project's, not the other's
		{"DB-1", dns.TypeA, "10.0.0.2"},
		{"db.p", dns.TypeA, "10.0.0.2"},
		{"0123456789ab", dns.TypeA, "10.0.0.2"},
		{"db.p_default", dns.TypeA, "10.0.0.2"},
		{"db.shared", dns.TypeA, "10.0.1.2"},
		{"db", dns.TypeAAAA, "fd00::2"},
		{"db", dns.TypeANY, "10.0.0.2 fd00::2"},
		{"store", dns.TypeA, "10.0.0.2"},
		{"web", dns.TypeA, "10.0.0.3 10.0.0.4"},
		{"web", dns.TypeAAAA, ""},
		{"web", dns.TypeMX, ""},
		{"only", dns.TypeA, "10.0.1.2"},
		{"far", dns.TypeA, "NXDOMAIN"},
		{"nobody", dns.TypeA, "NXDOMAIN"},
		{"localhost", dns.TypeA, "127.0.0.1"},
		{"example.org", dns.TypeA, "NXDOMAIN"}, // internal: nobody is asked
		{"2.0.0.10.in-addr.arpa", dns.TypePTR, "db-1.p_default."},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", dns.TypePTR, "db-1.p_default."},
		{"9.9.9.9.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
	} {
		expect(t, dns.TypeToString[c.kind]+" "+c.name, said(b.ask(c.name, c.kind)), c.want)
	}

	must(t, b.rec.Remove(key("p_default")+"/c-pdb-1"))
	b.until("db-1 is forgotten", func() bool { return said(b.ask("db-1", dns.TypeA)) == "NXDOMAIN" })
	expect(t, "db, now only the other project's", said(b.ask("db", dns.TypeA)), "10.0.1.2")
	expect(t, "PTR of what is gone", said(b.ask("2.0.0.10.in-addr.arpa", dns.TypePTR)), "NXDOMAIN")
}

func TestAnswersRotateAndKeepCase(t *testing.T) {
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, Internal: true})
	for i := range 3 {
		b.put(endpoint("n", "p", fmt.Sprintf("web-%d", i), fmt.Sprintf("10.0.0.%d", 2+i), "web"))
	}
	first := map[string]int{}
	for range 30 {
		r := b.ask("wEb", dns.TypeA)
		expect(t, "question as asked", r.Question[0].Name, "wEb.")
		if len(r.Answer) != 3 {
			t.Fatalf("got %d records, want 3", len(r.Answer))
		}
		first[r.Answer[0].(*dns.A).A.String()]++
		if ttl := r.Answer[0].Header().Ttl; ttl != aliveTTL {
			t.Errorf("ttl: got %d, want %d", ttl, aliveTTL)
		}
	}
	for a, n := range first {
		if n != 10 {
			t.Errorf("%s came first %d times of 30, want 10", a, n)
		}
	}
}

func TestLongAnswersAreTruncatedAndWholeOverTCP(t *testing.T) {
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, Internal: true})
	const many = 200
	for i := range many {
		ep := endpoint("n", "p", fmt.Sprintf("web-%d", i), fmt.Sprintf("10.0.%d.%d", i/250, 2+i%250), "web")
		must(t, b.rec.Write(key("n")+"/"+ep.Container, ep))
	}
	must(t, b.dir.Follow("n"))
	for _, c := range []struct {
		network string
		edns    uint16
		records int
		tc      bool
	}{{"udp", 0, 30, true}, {"udp", 1232, 75, true}, {"udp", 4096, many, false}, {"udp", 65535, many, false}, {"tcp", 0, many, false}} {
		m := new(dns.Msg).SetQuestion("web.", dns.TypeA)
		if c.edns > 0 {
			m.SetEdns0(c.edns, false)
		}
		r := b.exchange(c.network, m)
		if len(r.Answer) != c.records || r.Truncated != c.tc {
			t.Errorf("%s, EDNS %d: %d records, truncated %v; want %d, %v", c.network, c.edns, len(r.Answer), r.Truncated, c.records, c.tc)
		}
		if (r.IsEdns0() != nil) != (c.edns > 0) {
			t.Errorf("%s, EDNS %d: OPT in the answer: %v", c.network, c.edns, r.IsEdns0())
		}
	}
	m := new(dns.Msg).SetQuestion("web.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().SetVersion(1)
	if r := b.exchange("udp", m); r.Rcode != dns.RcodeBadVers {
		t.Errorf("EDNS version 1: got %s, want BADVERS", dns.RcodeToString[r.Rcode])
	}
}

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
		o.asked.Add(1)
		o.ids.Store(q.Id, true)
		o.ports.Store(w.RemoteAddr().String(), true)
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
	host := newNS(t)
	one := newOutside(t, host, "127.0.0.1:53", "192.0.2.1")
	two := newOutside(t, host, "127.0.0.2:53", "192.0.2.2")
	conf := t.TempDir() + "/resolv.conf"
	must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), 0o644))
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
	must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.2\noptions timeout:1\n"), 0o644))
	expect(t, "after resolv.conf changed", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.2")

	must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:1 attempts:1\n#\n"), 0o644))
	one.rcode.Store(dns.RcodeServerFailure)
	expect(t, "failing server is passed over", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.2")
	one.rcode.Store(dns.RcodeNameError)
	expect(t, "NXDOMAIN is an answer", said(b.ask("www.example.org", dns.TypeA)), "NXDOMAIN")
	one.rcode.Store(0)
	one.hold.Store(true)
	begin := time.Now()
	expect(t, "silent server", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.2")
	if d := time.Since(begin); d < 900*time.Millisecond || d > 3*time.Second {
		t.Errorf("failover took %s, want the configured second", d)
	}
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
	b.serve(Config{Networks: []string{"n"}, Servers: []netip.AddrPort{own.at}, NS: b.ns, Timeout: time.Second})
	expect(t, "dns: server", said(b.ask("www.example.org", dns.TypeA)), "192.0.2.5")
}

func TestInternalNetworksAskNobody(t *testing.T) {
	host := newNS(t)
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
	host := newNS(t)
	o := newOutside(t, host, "127.0.0.1:53", "192.0.2.1")
	o.hold.Store(true)
	conf := t.TempDir() + "/resolv.conf"
	must(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n"), 0o644))
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, HostConf: conf, HostNS: host})
	b.put(endpoint("n", "p", "db", "10.0.0.2"))
	c := b.dial("udp")
	defer c.Close()
	b.until("the flood waits outside", func() bool {
		for i := range 200 {
			must(t, c.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("x%d.example.org.", i), dns.TypeA)))
		}
		return len(outside) == mostAsking
	})
	begin := time.Now()
	for range 100 {
		expect(t, "local name in a flood", said(b.ask("db", dns.TypeA)), "10.0.0.2")
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("100 local answers took %s", d)
	}
	b.halt() // nothing hangs on
	if n := len(outside); n != 0 {
		t.Errorf("%d places outside are still taken", n)
	}
}

func TestSocketsOutliveTheirProcess(t *testing.T) {
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, Internal: true})
	b.put(endpoint("n", "p", "db", "10.0.0.2"))
	b.halt()
	c := b.dial("udp")
	defer c.Close()
	must(t, c.WriteMsg(new(dns.Msg).SetQuestion("db.", dns.TypeA)))
	b.serve(Config{Project: "p", Networks: []string{"n"}, Internal: true})
	r, err := c.ReadMsg()
	must(t, err)
	expect(t, "asked while nobody served", said(r), "10.0.0.2")
}

func TestTheContainerMayHavePort53Itself(t *testing.T) {
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, Internal: true})
	own := newOutside(t, b.ns, "0.0.0.0:53", "192.0.2.53")
	var c net.Conn
	must(t, netns.In(b.ns, func() (err error) { c, err = net.Dial("udp", "127.0.0.1:53"); return err }))
	defer c.Close()
	conn := &dns.Conn{Conn: c}
	must(t, conn.WriteMsg(new(dns.Msg).SetQuestion("a.b.", dns.TypeA)))
	_ = c.SetDeadline(time.Now().Add(time.Second))
	r, err := conn.ReadMsg()
	must(t, err)
	expect(t, "the container's own server", said(r), "192.0.2.53")
	expect(t, "ours beside it", said(b.ask("a.b", dns.TypeA)), "NXDOMAIN")
	if own.asked.Load() != 1 {
		t.Errorf("the container's server was asked %d times, want once", own.asked.Load())
	}
}

func TestTenThousandNames(t *testing.T) {
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, Internal: true})
	const many = 10000
	z := newZone()
	for i := range many {
		ep := endpoint("n", "p", fmt.Sprintf("s%d-1", i), fmt.Sprintf("10.1.%d.%d", i>>8, i&255), fmt.Sprintf("s%d", i))
		z.put(ep.Container, ep)
	}
	b.dir.mu.Lock()
	b.dir.zones["n"] = z
	b.dir.mu.Unlock()
	var wg sync.WaitGroup
	var wrong atomic.Int64
	for w := range 8 {
		c := b.dial("udp")
		defer c.Close()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; i < many; i += 8 {
				if c.WriteMsg(new(dns.Msg).SetQuestion(fmt.Sprintf("s%d.", i), dns.TypeA)) != nil {
					wrong.Add(1)
				}
				r, err := c.ReadMsg()
				if err != nil || said(r) != fmt.Sprintf("10.1.%d.%d", i>>8, i&255) {
					wrong.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	if n := wrong.Load(); n != 0 {
		t.Errorf("%d wrong answers of %d", n, many)
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
