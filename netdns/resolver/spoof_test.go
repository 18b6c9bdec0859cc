package resolver

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/kernel"
)

// Somebody who does not see the questions answers in the server's name, a million
// times with DAVIT_LONG, else a tenth of that: no answer is taken, for each has to
// guess an id and a port (CVE-2019-19794).
func TestBlindSpooferIsNotBelieved(t *testing.T) {
	n := 1_000_000
	if os.Getenv("DAVIT_LONG") == "" {
		n /= 10
	}
	host := kernel.Namespace(t)
	o := newOutside(t, host, "127.0.0.1:53", "192.0.2.1")
	o.hold.Store(true)
	b := newBox(t, Config{})
	b.halt()
	b.serve(Config{Networks: []string{"n"}, Servers: []netip.AddrPort{o.at}, NS: host, Timeout: time.Hour, Attempts: 1})

	c := b.dial("udp")
	defer c.Close()
	question := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	must(t, c.WriteMsg(question))
	b.until("the question is asked outside", func() bool { return o.asked.Load() > 0 })
	blind := func() (port, id uint16) { return uint16(32768 + rand.IntN(28232)), uint16(rand.Uint32()) }
	if sent := spoof(t, host, question, n, blind); sent < n/2 {
		t.Fatalf("only %d answers of %d could be sent", sent, n)
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if r, err := c.ReadMsg(); err == nil {
		t.Fatalf("a blind answer was taken: %v", r.Answer)
	}
	// Who knows both is believed: so the others did arrive.
	spoof(t, host, question, 1, func() (port, id uint16) {
		o.ports.Range(func(k, _ any) bool { port = netip.MustParseAddrPort(k.(string)).Port(); return false })
		o.ids.Range(func(k, _ any) bool { id = k.(uint16); return false })
		return port, id
	})
	_ = c.SetReadDeadline(time.Now().Add(patience))
	r, err := c.ReadMsg()
	must(t, err)
	expect(t, "the answer of one who sees the question", said(r), "203.0.113.6")
}

// spoof sends n answers from the server's address and port, to ports and with
// ids that guess gives, and tells how many the kernel took.
func spoof(t *testing.T, ns *os.File, question *dns.Msg, n int, guess func() (port, id uint16)) (sent int) {
	t.Helper()
	r := new(dns.Msg).SetReply(question)
	header := dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 9}
	r.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(203, 0, 113, 6)}}
	answer, err := r.Pack()
	must(t, err)
	fd := -1
	must(t, netns.In(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
		return err
	}))
	defer unix.Close(fd)
	msg := make([]byte, 8, 8+len(answer)) // RFC 768; a checksum of 0 is none
	binary.BigEndian.PutUint16(msg[0:], 53)
	binary.BigEndian.PutUint16(msg[4:], uint16(8+len(answer)))
	msg = append(msg, answer...)
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	for range n {
		port, id := guess()
		binary.BigEndian.PutUint16(msg[2:], port)
		binary.BigEndian.PutUint16(msg[8:], id)
		if unix.Sendto(fd, msg, 0, to) == nil {
			sent++
		}
	}
	return sent
}

// Questions outside come from ports and with ids that nobody can foresee.
func TestPortsAndIDsOfQuestionsOutsideDiffer(t *testing.T) {
	host := kernel.Namespace(t)
	o := newOutside(t, host, "127.0.0.1:53", "192.0.2.1")
	b := newBox(t, Config{})
	b.halt()
	b.serve(Config{Networks: []string{"n"}, Servers: []netip.AddrPort{o.at}, NS: host, Timeout: patience})
	const asked = 300
	for range asked {
		m := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
		m.Id = 7 // the container's own choice is not passed on
		expect(t, "answer", said(b.exchange("udp", m)), "192.0.2.1")
	}
	count := func(m *sync.Map) (n int) {
		m.Range(func(any, any) bool { n++; return true })
		return n
	}
	// Three hundred of 28,232 ports and of 65,536 ids hardly ever coincide.
	if p, i := count(&o.ports), count(&o.ids); p < asked-20 || i < asked-20 {
		t.Errorf("%d questions came from %d ports with %d ids", asked, p, i)
	}
}
