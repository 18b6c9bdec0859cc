package attach

import (
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/netdns/sandbox"
)

// A container that calls itself a router is not believed by its neighbours, on
// networks with IPv6 and without (CVE-2020-13401). One that was told to listen to
// routers shows that the others could have heard.
func TestRoutersAmongContainersAreNotBelieved(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "dual", IPv6: true})
	w.network(netdns.Network{Name: "four"})
	for _, network := range []string{"dual", "four"} {
		rogue, _ := w.container("rogue-"+network, network)
		victim, _ := w.container("victim-"+network, network)
		set(t, rogue, "ipv6/conf/eth0/disable_ipv6", "0")
		must(t, netns.In(rogue, func() error { return addressed0("fe80::bad/64") }))
		advertise(t, rogue)
		if network == "dual" {
			naive, _ := w.container("naive", network)
			set(t, naive, "ipv6/conf/eth0/accept_ra", "2")
			eventually(t, "who listens hears", func() bool {
				advertise(t, rogue)
				return strings.Contains(addresses6(t, naive), "2001:db8:bad:")
			})
		}
		if got := addresses6(t, victim); strings.Contains(got, "2001:db8:bad:") || network == "four" && got != "" {
			t.Errorf("on %s the neighbour has %s", network, got)
		}
		must(t, netns.In(victim, func() error {
			routes, err := sandbox.Whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_V6) })
			for _, r := range routes {
				if r.Gw != nil && strings.HasPrefix(r.Gw.String(), "fe80::bad") {
					t.Errorf("on %s the neighbour has a route %v", network, r)
				}
			}
			return err
		}))
	}
}

// advertise sends one router advertisement to all on the link, RFC 4861 section
// 4.2, with one prefix to make addresses of.
func advertise(t *testing.T, ns *os.File) {
	t.Helper()
	must(t, netns.In(ns, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		msg := make([]byte, 16+32)
		msg[0], msg[4] = 134, 64
		msg[6], msg[7] = 0x07, 0x08 // a router for half an hour
		prefix := msg[16:]
		prefix[0], prefix[1], prefix[2], prefix[3] = 3, 4, 64, 0xc0 // on the link, for addresses
		prefix[6], prefix[10] = 0x0e, 0x0e                          // valid and preferred for an hour
		copy(prefix[16:], []byte{0x20, 0x01, 0x0d, 0xb8, 0x0b, 0xad})
		to := &unix.SockaddrInet6{ZoneId: uint32(l.Attrs().Index), Addr: [16]byte{0: 0xff, 1: 2, 15: 1}}
		return unix.Sendto(fd, msg, 0, to)
	}))
}

// addresses6 are the IPv6 addresses of a namespace's eth0.
func addresses6(t *testing.T, ns *os.File) string {
	t.Helper()
	var out []string
	must(t, netns.In(ns, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		all, err := sandbox.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_V6) })
		for _, a := range all {
			out = append(out, a.IP.String())
		}
		return err
	}))
	return strings.Join(out, " ")
}
