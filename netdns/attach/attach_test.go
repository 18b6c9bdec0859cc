package attach

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
)

var ctx = context.Background()

func TestContainersOfOneNetworkReachEachOtherAndTheOutside(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	one, _ := w.container("one", "a")
	two, eps := w.container("two", "a")
	hello(t, two, "two", 80)
	hello(t, w.lan, "lan", 80)
	hello(t, w.host, "host", 81)

	_, ones := one, w.endpoint("a", "one")
	expect(t, "neighbour on the bridge", ask(one, "tcp", at(eps[0].IPv4, 80)), "two "+ones.IPv4.String())
	expect(t, "the outside sees the host's address", ask(one, "tcp", "198.51.100.2:80"), "lan 198.51.100.1")
	expect(t, "host to container", ask(w.host, "udp", at(eps[0].IPv4, 80)), "two "+gateway(eps[0]))
}

func (w *world) endpoint(network, name string) netdns.Endpoint {
	w.t.Helper()
	var ep netdns.Endpoint
	must(w.t, w.rec.Read(keyEndpoint(network, "c-"+name), &ep))
	return ep
}

func gateway(ep netdns.Endpoint) string {
	return netip.PrefixFrom(ep.IPv4, 24).Masked().Addr().Next().String()
}

func TestNetworksAreIsolated(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	w.network(netdns.Network{Name: "b"})
	w.network(netdns.Network{Name: "inner", Internal: true})
	a, _ := w.container("a", "a")
	b, bs := w.container("b", "b")
	in, ins := w.container("in", "inner")
	in2, _ := w.container("in2", "inner")
	hello(t, b, "b", 80)
	hello(t, in, "in", 80)
	hello(t, w.lan, "lan", 80)
	must(t, netns.In(w.lan, func() error { return route(bs[0].IPv4, "198.51.100.1") }))
	must(t, netns.In(w.lan, func() error { return route(ins[0].IPv4, "198.51.100.1") }))

	for _, proto := range []string{"tcp", "udp"} {
		expect(t, proto+" between networks", knock(a, proto, at(bs[0].IPv4, 80)), "closed")
		expect(t, proto+" into an internal network", knock(a, proto, at(ins[0].IPv4, 80)), "closed")
		expect(t, proto+" out of an internal network", knock(in, proto, "198.51.100.2:80"), "closed")
		expect(t, proto+" from the LAN with a route", knock(w.lan, proto, at(bs[0].IPv4, 80)), "closed")
		expect(t, proto+" from the LAN into internal", knock(w.lan, proto, at(ins[0].IPv4, 80)), "closed")
		expect(t, proto+" to another network's gateway", knock(a, proto, gateway(bs[0])+":80"), "closed")
		expect(t, proto+" inside an internal network", ask(in2, proto, at(ins[0].IPv4, 80))[:3], "in ")
	}
}

func TestPublishedPorts(t *testing.T) {
	for _, call := range []string{"0", "1"} { // br_netfilter sends bridged packets through our table, or not
		t.Run("bridge-nf-call-iptables="+call, func(t *testing.T) {
			w := newWorld(t)
			if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
				set(t, w.host, "bridge/bridge-nf-call-iptables", call)
				set(t, w.host, "bridge/bridge-nf-call-ip6tables", call)
			}
			publishedPorts(t, w)
		})
	}
}

func publishedPorts(t *testing.T, w *world) {
	w.network(netdns.Network{Name: "a"})
	w.network(netdns.Network{Name: "b"})
	web, eps := w.container("web", "a")
	same, _ := w.container("same", "a")
	other, _ := w.container("other", "b")
	hello(t, web, "web", 80)
	p := netdns.Publication{ContainerPort: 80, Container: "c-web", Network: "a", To: eps[0].IPv4}
	with := func(proto, ip string, port uint16) netdns.Publication {
		q := p
		q.Protocol, q.HostPort = proto, port
		if ip != "" {
			q.HostIP = netip.MustParseAddr(ip)
		}
		return q
	}
	w.publish(with("tcp", "", 8080), with("udp", "", 8080), with("tcp", "127.0.0.1", 8081),
		with("udp", "127.0.0.1", 8081), with("tcp", "198.51.100.1", 8082))
	gw := gateway(eps[0])
	for _, proto := range []string{"tcp", "udp"} {
		expect(t, proto+" loopback", ask(w.host, proto, "127.0.0.1:8080"), "web "+gw)
		expect(t, proto+" own address", ask(w.host, proto, "198.51.100.1:8080"), "web 198.51.100.1")
		expect(t, proto+" LAN keeps its address", ask(w.lan, proto, "198.51.100.1:8080"), "web 198.51.100.2")
		expect(t, proto+" container of another network", ask(other, proto, "198.51.100.1:8080"), "web "+gw)
		expect(t, proto+" hairpin from a sibling", ask(same, proto, "198.51.100.1:8080"), "web "+gw)
		expect(t, proto+" hairpin from itself", ask(web, proto, "198.51.100.1:8080"), "web "+gw)
		expect(t, proto+" [::1], by proxy", ask(w.host, proto, "[::1]:8080"), "web "+gw)
		expect(t, proto+" [LAN], by proxy", ask(w.lan, proto, "[2001:db8::1]:8080"), "web "+gw)
		expect(t, proto+" loopback only, here", ask(w.host, proto, "127.0.0.1:8081"), "web "+gw)
		expect(t, proto+" loopback only, from the LAN", knock(w.lan, proto, "198.51.100.1:8081"), "closed")
		expect(t, proto+" loopback only, from a container", knock(other, proto, "198.51.100.1:8081"), "closed")
	}
	expect(t, "one address, from the LAN", ask(w.lan, "tcp", "198.51.100.1:8082"), "web 198.51.100.2")
	expect(t, "one address, loopback", knock(w.host, "tcp", "127.0.0.1:8082"), "closed")
}

func TestLoopbackStaysClosedToBridgesAndLAN(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	c, eps := w.container("c", "a")
	must(t, netns.In(w.host, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:7777")
		if err == nil {
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Write([]byte("secret"))
					c.Close()
				}
			}()
		}
		return err
	}))
	expect(t, "the host itself", ask(w.host, "tcp", "127.0.0.1:7777"), "secret")
	// CVE-2020-8558: a packet for 127.0.0.1 that arrives on a link.
	for _, ns := range []*os.File{c, w.lan} {
		via := gateway(eps[0])
		if ns == w.lan {
			via = "198.51.100.1"
		}
		set(t, ns, "ipv4/conf/all/route_localnet", "1")
		must(t, netns.In(ns, func() error { return stealLoopback(via) }))
		expect(t, "127.0.0.1 of the host through "+via, knock(ns, "tcp", "127.0.0.1:7777"), "closed")
	}
}

func TestTakenPortNamesItsHolder(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	_, eps := w.container("web", "a")
	must(t, netns.In(w.host, func() error {
		l, err := net.Listen("tcp", ":9090")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}))
	p := netdns.Publication{HostPort: 9090, ContainerPort: 80, Protocol: "tcp", Container: "c-web", Network: "a", To: eps[0].IPv4}
	_, _, err := w.h.Publish(ctx, []netdns.Publication{p})
	var taken *TakenError
	if !errors.As(err, &taken) {
		t.Fatalf("got %v, want a TakenError", err)
	}
	if taken.PID != os.Getpid() || taken.Process == "" {
		t.Errorf("holder: got %s (pid %d), want pid %d", taken.Process, taken.PID, os.Getpid())
	}
	p.HostPort = 9091
	w.publish(p)
	_, _, err = w.h.Publish(ctx, []netdns.Publication{p})
	if err == nil || !strings.Contains(err.Error(), "by container web of project p") {
		t.Errorf("a port of our own: %v", err)
	}
	// A rival with SO_REUSEADDR, as Go's listeners have it, does not get it.
	err = netns.In(w.host, func() error {
		l, err := net.Listen("tcp4", "0.0.0.0:9091")
		if err == nil {
			l.Close()
		}
		return err
	})
	if err == nil {
		t.Error("a rival could listen on a reserved port")
	}
	p.HostPort, p.HostPortEnd = 9090, 9095
	if got := w.publish(p); got[0].HostPort != 9092 {
		t.Errorf("range 9090-9095: got port %d, want 9092", got[0].HostPort)
	}
	p.HostPort, p.HostPortEnd = 0, 0
	if got := w.publish(p); got[0].HostPort < 1024 {
		t.Errorf("free port: got %d", got[0].HostPort)
	}
}

func TestNothingIsLeft(t *testing.T) {
	w := newWorld(t)
	before := ruleset(t, w.host)
	w.network(netdns.Network{Name: "a", IPv6: true})
	w.network(netdns.Network{Name: "b", Internal: true})
	if got := value(t, w.host, ipForward); got != "1" {
		t.Errorf("ip_forward while networks stand: %s", got)
	}
	ns, eps := w.container("one", "a", "b")
	p := netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-one", Network: "a", To: eps[0].IPv4}
	pubs, held, err := w.h.Publish(ctx, []netdns.Publication{p})
	must(t, err)
	ns.Close()
	for range 2 { // every undo may be repeated
		must(t, w.h.Unpublish(ctx, pubs))
		for _, ep := range eps {
			must(t, w.h.Detach(ctx, ep))
		}
		must(t, w.h.Remove(ctx, "b"))
		must(t, w.h.Remove(ctx, "a"))
	}
	for _, f := range held {
		f.Close()
	}
	for _, path := range []string{ipForward, ip6Forward} {
		if got := value(t, w.host, path); got != "0" {
			t.Errorf("%s after the last network: %s", path, got)
		}
	}
	expect(t, "nft ruleset", ruleset(t, w.host), before)
	eventually(t, "links gone", func() bool { return len(links(t, w.host)) == 0 })
	var left []string
	must(t, filesBelow(w.rec.Root, &left))
	if len(left) > 0 {
		t.Errorf("records left: %v", left)
	}
}

// ruleset is what nft lists in a namespace.
func ruleset(t testing.TB, ns *os.File) string {
	t.Helper()
	var out []byte
	must(t, netns.In(ns, func() (err error) {
		out, err = exec.Command("nft", "list", "ruleset").CombinedOutput()
		return err
	}))
	return string(out)
}
