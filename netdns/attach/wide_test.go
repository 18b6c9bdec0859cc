package attach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/ipam"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/records"
)

func TestIPv6(t *testing.T) {
	w := newWorld(t)
	n := w.network(netdns.Network{Name: "six", IPv6: true})
	w.network(netdns.Network{Name: "only", IPv6: true, NoIPv4: true})
	w.network(netdns.Network{Name: "four"})
	a, as := w.container("a", "six")
	b, _ := w.container("b", "six")
	o, onlys := w.container("o", "only")
	four, _ := w.container("four", "four")
	if len(n.Pools) != 2 || !as[0].IPv6.IsValid() || onlys[0].IPv4.IsValid() {
		t.Fatalf("pools %v, endpoints %v %v", n.Pools, as, onlys)
	}
	hello(t, a, "a", 80)
	hello(t, o, "o", 80)
	hello(t, w.lan, "lan", 80)
	must(t, netns.In(w.lan, func() error { return route(as[0].IPv6, "2001:db8::1") }))
	p := netdns.Publication{HostPort: 8080, ContainerPort: 80, Container: "c-a", Network: "six", To: as[0].IPv4, To6: as[0].IPv6}
	q := netdns.Publication{HostPort: 8081, ContainerPort: 80, Container: "c-a", Network: "six", To: as[0].IPv4, To6: as[0].IPv6, HostIP: netip.IPv6Loopback()}
	for _, proto := range []string{"tcp", "udp"} {
		p.Protocol, q.Protocol = proto, proto
		w.publish(p, q)
	}
	gw := n.Pools[1].Gateway.String()
	for _, proto := range []string{"tcp", "udp"} {
		expect(t, proto+" on the bridge", ask(b, proto, at(as[0].IPv6, 80))[:2], "a ")
		expect(t, proto+" to the outside", ask(a, proto, "[2001:db8::2]:80"), "lan 2001:db8::1")
		expect(t, proto+" between networks", knock(o, proto, at(as[0].IPv6, 80)), "closed")
		expect(t, proto+" from the LAN with a route", knock(w.lan, proto, at(as[0].IPv6, 80)), "closed")
		expect(t, proto+" published, LAN keeps its address", ask(w.lan, proto, "[2001:db8::1]:8080"), "a 2001:db8::2")
		expect(t, proto+" published, from another network", ask(o, proto, "[2001:db8::1]:8080"), "a "+gw)
		expect(t, proto+" hairpin", ask(a, proto, "[2001:db8::1]:8080"), "a "+gw)
		expect(t, proto+" published on [::1]", ask(w.host, proto, "[::1]:8080")[:2], "a ")
		expect(t, proto+" [::1] alone", ask(w.host, proto, "[::1]:8081")[:2], "a ")
		expect(t, proto+" [::1] alone, from the LAN", knock(w.lan, proto, "[2001:db8::1]:8081"), "closed")
	}
	// CVE-2020-13401: no IPv6 where the network has none.
	must(t, netns.In(four, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
		if len(addrs) > 0 {
			t.Errorf("IPv6 addresses on a network without IPv6: %v", addrs)
		}
		return err
	}))
	expect(t, "accept_ra", value(t, a, "ipv6/conf/eth0/accept_ra"), "0")
}

func TestEndpointsAsAskedFor(t *testing.T) {
	w := newWorld(t)
	p := pool("10.9.0.0/24")
	p.Range = netip.MustParsePrefix("10.9.0.128/25")
	p.Gateway = netip.MustParseAddr("10.9.0.254")
	p.Aux = map[string]netip.Addr{"printer": netip.MustParseAddr("10.9.0.129")}
	w.network(netdns.Network{Name: "a", Pools: []netdns.Pool{p}, Options: map[string]string{netdns.OptMTU: "1400"}})
	w.network(netdns.Network{Name: "b"})
	ns, err := w.h.Sandbox(ctx)
	must(t, err)
	defer ns.Close()
	ep, err := w.h.Attach(ctx, ns, netdns.Endpoint{
		Network: "a", Container: "x", Name: "x", IPv4: netip.MustParseAddr("10.9.0.7"), MAC: "02:11:22:33:44:55",
		Interface: "front", LinkLocal: []string{"169.254.7.7"},
	})
	must(t, err)
	other, err := w.h.Attach(ctx, ns, netdns.Endpoint{Network: "b", Container: "x", Name: "x", Gateway: true})
	must(t, err)
	must(t, netns.In(ns, func() error {
		l, err := netlink.LinkByName("front")
		if err != nil {
			return err
		}
		if got := l.Attrs().HardwareAddr.String(); got != ep.MAC || l.Attrs().MTU != 1400 {
			t.Errorf("link: MAC %s, MTU %d", got, l.Attrs().MTU)
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 2 {
			t.Errorf("addresses: %v, %v", addrs, err)
		}
		routes, err := netlink.RouteGet(net.ParseIP("198.51.100.2"))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != gateway(other) {
			t.Errorf("default route: %v, %v; want through %s", routes, err, gateway(other))
		}
		return nil
	}))
	_, eps := w.container("dynamic", "a")
	_, more := w.container("more", "a")
	expect(t, "first address of the range", eps[0].IPv4.String(), "10.9.0.128")
	expect(t, "the next one that is not reserved", more[0].IPv4.String(), "10.9.0.130")
	for what, e := range map[string]netdns.Endpoint{
		"held by":       {IPv4: netip.MustParseAddr("10.9.0.7")},
		"gateway":       {IPv4: netip.MustParseAddr("10.9.0.254")},
		"printer":       {IPv4: netip.MustParseAddr("10.9.0.129")},
		"outside":       {IPv4: netip.MustParseAddr("10.8.0.7")},
		"that family":   {IPv6: netip.MustParseAddr("fd00::7")},
		"mac_address":   {MAC: "nonsense"},
		"interface":     {Interface: "../eth0"},
		"use 1 to 15":   {Interface: "sixteencharacter"},
		"link_local_ip": {LinkLocal: []string{"nonsense"}},
	} {
		e.Network, e.Container, e.Name = "a", "bad", "bad"
		other, err := w.h.Sandbox(ctx)
		must(t, err)
		if _, err = w.h.Attach(ctx, other, e); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
		other.Close()
	}
	must(t, w.h.Disconnect(ctx, ns, other))
	must(t, w.h.Disconnect(ctx, ns, other))
	if err := netns.In(ns, func() error { _, err := netlink.LinkByName(other.Interface); return err }); err == nil {
		t.Error("the link is there after Disconnect")
	}
}

func TestRestartKeepsAddresses(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	peer, _ := w.container("peer", "a")
	ns, first := w.container("web", "a")
	hello(t, ns, "web", 80)
	expect(t, "before", ask(peer, "tcp", at(first[0].IPv4, 80))[:4], "web ")
	// The old namespace is still there, as one that is being taken down is.
	again, second := w.container("web", "a")
	if first[0].IPv4 != second[0].IPv4 || first[0].MAC != second[0].MAC {
		t.Errorf("was %s %s, is %s %s", first[0].IPv4, first[0].MAC, second[0].IPv4, second[0].MAC)
	}
	hello(t, again, "web2", 80)
	expect(t, "at once after", ask(peer, "tcp", at(first[0].IPv4, 80))[:5], "web2 ")
}

func TestUDPClientFollowsThePort(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	one, ones := w.container("one", "a")
	two, twos := w.container("two", "a")
	hello(t, one, "one", 53)
	hello(t, two, "two", 53)
	var c net.Conn
	must(t, netns.In(w.lan, func() (err error) { c, err = net.Dial("udp", "198.51.100.1:5353"); return err }))
	defer c.Close()
	says := func(within time.Duration) string {
		_ = c.SetDeadline(time.Now().Add(within))
		// A refusal of what was sent before may come with any call.
		for refused(func() error { _, err := c.Write([]byte("?")); return err }) {
		}
		b, n := make([]byte, 100), 0
		for refused(func() (err error) { n, err = c.Read(b); return err }) {
		}
		name, _, _ := strings.Cut(string(b[:n]), " ")
		return name
	}
	expect(t, "nobody yet", says(silence), "")
	p := netdns.Publication{HostPort: 5353, ContainerPort: 53, Protocol: "udp", Container: "c-one", Network: "a", To: ones[0].IPv4}
	pubs, held, err := w.h.Publish(ctx, []netdns.Publication{p})
	must(t, err)
	expect(t, "the same socket, published", says(patience), "one")
	must(t, w.h.Unpublish(ctx, pubs))
	for _, f := range held {
		f.Close()
	}
	expect(t, "unpublished", says(silence), "")
	p.Container, p.To = "c-two", twos[0].IPv4
	w.publish(p)
	expect(t, "published by another", says(patience), "two")
}

func refused(call func() error) bool { return errors.Is(call(), unix.ECONNREFUSED) }

func TestTwoInstallationsShareAHost(t *testing.T) {
	w := newWorld(t)
	other, err := NewIn(&records.Files{Root: t.TempDir()}, w.host)
	must(t, err)
	defer other.Close()
	w.network(netdns.Network{Name: "a"})
	mine := w.table()
	_, err = other.Ensure(ctx, netdns.Network{Name: "a", ID: "id-a"})
	must(t, err)
	must(t, other.Recover(ctx))
	must(t, w.h.Remove(ctx, "a"))
	expect(t, "forwarding while the other stands", value(t, w.host, ipForward), "1")
	must(t, other.Remove(ctx, "a"))
	expect(t, "forwarding after both", value(t, w.host, ipForward), "0")
	if mine == "" || len(links(t, w.host)) > 0 || strings.Contains(ruleset(t, w.host), "davit") {
		t.Errorf("left: %v %s", links(t, w.host), ruleset(t, w.host))
	}
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "kept"})
	w.network(netdns.Network{Name: "lost"})
	ns, _ := w.container("kept", "kept")
	orphan, eps := w.container("orphan", "kept")
	hello(t, ns, "kept", 80)
	// A crash after the records went and before the kernel's objects did.
	must(t, w.rec.Remove(keyRuntime("lost")))
	must(t, w.rec.Remove(keyEndpoint("kept", "c-orphan")))
	old := netdns.Endpoint{Network: "kept", Container: "c-old", Name: "old", Since: time.Now(), Boot: "another"}
	must(t, w.rec.Write(keyEndpoint("kept", "c-old"), old)) // from another boot
	kept := w.endpoint("kept", "kept")
	kept.Since = time.Unix(1, 0) // the clock was put forward since
	must(t, w.rec.Write(keyEndpoint("kept", "c-kept"), kept))
	pub := netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-old", Network: "kept", To: eps[0].IPv4}
	must(t, w.rec.Write(keyPort("kept", "c-old"), []netdns.Publication{pub}))
	must(t, netns.In(w.host, func() error { return exec.Command("nft", "flush", "ruleset").Run() }))
	must(t, w.h.Recover(ctx))
	left := strings.Join(links(t, w.host), " ")
	if strings.Contains(left, w.h.tag.Bridge("id-lost")) || strings.Contains(left, eps[0].Host) {
		t.Errorf("links after Recover: %s", left)
	}
	if !strings.Contains(left, w.h.tag.Bridge("id-kept")) {
		t.Errorf("the network that is recorded is gone: %s", left)
	}
	held, err := ipam.Held(w.rec, "kept")
	must(t, err)
	if len(held) != 1 || held[w.endpoint("kept", "kept").IPv4.String()] != "c-kept" {
		t.Errorf("leases after Recover: %v", held)
	}
	if strings.Contains(w.table(), "8080") || w.rec.Read(keyEndpoint("kept", "c-old"), &old) == nil {
		t.Errorf("what was of another boot is there:\n%s", w.table())
	}
	expect(t, "what is recorded works", ask(w.host, "tcp", at(w.endpoint("kept", "kept").IPv4, 80))[:5], "kept ")
	expect(t, "the orphan's link", fmt.Sprint(netns.In(orphan, func() error { _, err := netlink.LinkByName("eth0"); return err })), "Link not found")
	must(t, w.h.Remove(ctx, "kept"))
	expect(t, "forwarding restored", value(t, w.host, ipForward), "0")
}

func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	projects, each := max(20, long(50)), 3
	var mu sync.Mutex
	seen := map[string]string{}
	var wg sync.WaitGroup
	for i := range projects {
		h, err := NewIn(w.rec, w.host) // a process of its own
		must(t, err)
		defer h.Close()
		wg.Add(1)
		go func() {
			defer wg.Done()
			name := fmt.Sprintf("n%d", i)
			n, err := h.Ensure(ctx, netdns.Network{Name: name, ID: "id-" + name})
			if err != nil {
				t.Error(err)
				return
			}
			for j := range each {
				ns, err := h.Sandbox(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				defer ns.Close()
				ep, err := h.Attach(ctx, ns, netdns.Endpoint{Network: name, Container: fmt.Sprintf("c%d-%d", i, j), Name: name})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if by := seen[ep.IPv4.String()]; by != "" {
					t.Errorf("%s given to %s and %s", ep.IPv4, by, name)
				}
				seen[ep.IPv4.String()] = name
				mu.Unlock()
			}
			if len(n.Pools) != 1 {
				t.Errorf("pools of %s: %v", name, n.Pools)
			}
		}()
	}
	wg.Wait()
	if len(seen) != projects*each {
		t.Errorf("%d addresses, want %d", len(seen), projects*each)
	}
}
