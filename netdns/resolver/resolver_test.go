package resolver

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/records"
)

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
	_ = c.SetDeadline(time.Now().Add(patience))
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

// A name is known from the moment its record is written: who starts a container
// and asks for it at once finds it, however late the watch is told.
func TestNamesAreKnownAtOnce(t *testing.T) {
	b := newBox(t, Config{Project: "p", Networks: []string{"n"}, Internal: true})
	unknown := 0
	for i := range 300 {
		ep := endpoint("n", "p", fmt.Sprintf("s%d", i), fmt.Sprintf("10.0.%d.%d", i>>8, i&255))
		must(t, b.rec.Write(key("n")+"/"+ep.Container, ep))
		if said(b.ask(ep.Name, dns.TypeA)) != ep.IPv4.String() {
			unknown++
		}
	}
	if unknown > 0 {
		t.Errorf("%d names of 300 were not known yet", unknown)
	}
}

// slowly are records that somebody changes while they are read.
type slowly struct {
	*records.Files
	read func(key string)
}

func (s *slowly) Read(key string, v any) error {
	err := s.Files.Read(key, v)
	s.read(key)
	return err
}

// A container that goes while a network's endpoints are read for the first time
// is not known afterwards, though the watch has told of it by then.
func TestWhoGoesWhileEndpointsAreReadIsForgotten(t *testing.T) {
	rec := &slowly{Files: &records.Files{Root: t.TempDir()}}
	ep := endpoint("n", "p", "db", "10.0.0.2")
	gone := key("n") + "/" + ep.Container
	must(t, rec.Write(gone, ep))
	var times atomic.Int64
	again := make(chan struct{})
	rec.read = func(key string) {
		if key != gone {
			return
		}
		switch times.Add(1) {
		case 1:
			must(t, rec.Remove(gone))
			select { // the watch tells of it now, or waits for its turn
			case <-again:
				time.Sleep(10 * time.Millisecond)
			case <-time.After(100 * time.Millisecond):
			}
		case 2:
			close(again)
		}
	}
	d, err := OpenDirectory(rec)
	must(t, err)
	defer d.Close()
	must(t, d.Follow("n"))
	kernel.Eventually(t, patience, "who is gone is forgotten", func() bool {
		_, known := d.lookup([]byte("db"), "p", []string{"n"}, nil)
		return !known
	})
}
