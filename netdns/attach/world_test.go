package attach

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/netdns/sandbox"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/records"
)

// world is a host and a LAN neighbour in namespaces of their own. The host has
// 198.51.100.1 and 2001:db8::1, the neighbour .2 and ::2.
type world struct {
	t         testing.TB
	host, lan *os.File
	rec       *records.Files
	h         *Host
}

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes network namespaces: needs root")
	}
	w := &world{t: t, rec: &records.Files{Root: t.TempDir()}, host: kernel.Namespace(t), lan: kernel.Namespace(t)}
	must(t, netns.In(w.host, func() error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(w.lan.Fd())}
		return netlink.LinkAdd(pair)
	}))
	must(t, netns.In(w.host, func() error { return addressed0("198.51.100.1/24", "2001:db8::1/64") }))
	must(t, netns.In(w.lan, func() error { return addressed0("198.51.100.2/24", "2001:db8::2/64") }))
	settled(t, "eth0", w.host, w.lan)
	heeds(t, w.host, "198.51.100.1", "2001:db8::1")
	heeds(t, w.lan, "198.51.100.2", "2001:db8::2")
	for _, path := range []string{ipForward, ip6Forward} { // inherited from the machine
		set(t, w.host, path, "0")
		set(t, w.lan, path, "0")
	}
	h, err := NewIn(w.rec, w.host)
	must(t, err)
	w.h = h
	t.Cleanup(func() { h.Close() })
	return w
}

// settled waits until a link carries packets at both ends.
func settled(t testing.TB, name string, both ...*os.File) {
	t.Helper()
	for _, ns := range both {
		eventually(t, name+" is up", func() (up bool) {
			_ = netns.In(ns, func() error {
				l, err := netlink.LinkByName(name)
				up = err == nil && l.Attrs().OperState == netlink.OperUp
				return err
			})
			return up
		})
	}
}

// heeds waits until eth0 answers who looks for its IPv6 addresses: the kernel
// joins their solicited-node groups (RFC 4291 section 2.7.1) when it has time, and
// a neighbour who asked before asks again a second later.
func heeds(t testing.TB, ns *os.File, addrs ...string) {
	t.Helper()
	for _, s := range addrs {
		a := netip.MustParseAddr(s)
		if !a.Is6() {
			continue
		}
		b := a.As16()
		group := fmt.Sprintf("ff0200000000000000000001ff%02x%02x%02x", b[13], b[14], b[15])
		eventually(t, s+" is heeded", func() (joined bool) {
			_ = netns.In(ns, func() error {
				groups, err := os.ReadFile("/proc/thread-self/net/igmp6")
				joined = strings.Contains(string(groups), group)
				return err
			})
			return joined
		})
	}
}

func addressed0(addrs ...string) error {
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := optional("ipv6/conf/eth0/accept_dad", "0"); err != nil { // else the link asks nobody for a second
		return err
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		if a.IP.To4() == nil {
			a.Flags = 2 // IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) network(n netdns.Network) netdns.Network {
	w.t.Helper()
	if n.ID == "" {
		n.ID = "id-" + n.Name
	}
	out, err := w.h.Ensure(context.Background(), n)
	must(w.t, err)
	return out
}

// container attaches a container to networks; the first is its way out.
func (w *world) container(name string, networks ...string) (*os.File, []netdns.Endpoint) {
	w.t.Helper()
	ns, err := w.h.Sandbox(context.Background())
	must(w.t, err)
	w.t.Cleanup(func() { ns.Close() })
	var eps []netdns.Endpoint
	for i, n := range networks {
		ep := netdns.Endpoint{Network: n, Container: "c-" + name, Project: "p", Name: name, Gateway: i == 0}
		ep, err := w.h.Attach(context.Background(), ns, ep)
		must(w.t, err)
		eps = append(eps, ep)
	}
	return ns, eps
}

// hello serves TCP and UDP in ns: it says name and the caller's address.
func hello(t testing.TB, ns *os.File, name string, port uint16) {
	t.Helper()
	var l net.Listener
	var u net.PacketConn
	must(t, netns.In(ns, func() (err error) {
		if l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
		u, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		return err
	}))
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			fmt.Fprintf(packetTo{u, from}, "%s %s", name, from.(*net.UDPAddr).IP)
		}
	}()
}

type packetTo struct {
	c  net.PacketConn
	to net.Addr
}

func (p packetTo) Write(b []byte) (int, error) { return p.c.WriteTo(b, p.to) }

const (
	patience = time.Minute            // for what must come, however busy the machine is
	silence  = 300 * time.Millisecond // is taken for a no where no answer must come
)

// ask connects from ns and returns what the server says, or "closed". The answer
// may be late, but no packet may have been lost: see resent.
func ask(ns *os.File, network, addr string) string { return askFor(patience, ns, network, addr) }

// knock is ask where no answer is expected, or where it is asked again.
func knock(ns *os.File, network, addr string) string { return askFor(silence, ns, network, addr) }

func askFor(d time.Duration, ns *os.File, network, addr string) string {
	var c net.Conn
	err := netns.In(ns, func() (err error) {
		c, err = net.DialTimeout(network, addr, d)
		return err
	})
	if err != nil {
		return "closed"
	}
	defer c.Close()
	if n := resent(c); n > 0 {
		return fmt.Sprintf("closed at first: %d packets were sent again", n)
	}
	_ = c.SetDeadline(time.Now().Add(d))
	if network[0] == 'u' {
		if _, err := c.Write([]byte("?")); err != nil {
			return "closed"
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil {
			return "closed"
		}
		return string(b[:n])
	}
	b, err := io.ReadAll(c)
	if err != nil || len(b) == 0 {
		return "closed"
	}
	return string(b)
}

// resent is how often TCP had to ask again for a connection: the kernel answers
// at once, also on a busy machine, unless a packet was dropped.
func resent(c net.Conn) (n uint32) {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return 0
	}
	if rc, err := tc.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) {
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				n = info.Total_retrans
			}
		})
	}
	return n
}

func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

func (w *world) publish(p ...netdns.Publication) []netdns.Publication {
	w.t.Helper()
	out, held, err := w.h.Publish(context.Background(), p)
	must(w.t, err)
	w.t.Cleanup(func() {
		for _, f := range held {
			f.Close()
		}
	})
	return out
}

// links names the davit links of a namespace.
func links(t testing.TB, ns *os.File) []string {
	t.Helper()
	var out []string
	must(t, netns.In(ns, func() error {
		all, err := sandbox.Whole(netlink.LinkList)
		for _, l := range all {
			if strings.HasPrefix(l.Attrs().Name, netdns.LinkPrefix) {
				out = append(out, l.Attrs().Name)
			}
		}
		return err
	}))
	return out
}

func value(t testing.TB, ns *os.File, path string) string {
	t.Helper()
	var v string
	must(t, netns.In(ns, func() (err error) { v, err = sysctl(path); return err }))
	return v
}

func set(t testing.TB, ns *os.File, path, v string) {
	t.Helper()
	must(t, netns.In(ns, func() error { return sandbox.Sysctl(path, v) }))
}

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return time.Since(begin)
		}
		if time.Since(begin) > patience {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
