package attach

import (
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// route sends what is for a container's subnet to the host, as a neighbour
// who wants in would.
func route(a netip.Addr, via string) error {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p := netip.PrefixFrom(a, bits).Masked()
	_, dst, err := net.ParseCIDR(p.String())
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
}

// stealLoopback makes a namespace send 127.0.0.0/8 out to a gateway.
func stealLoopback(via string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addrs, err := netlink.AddrList(lo, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if err := netlink.AddrDel(lo, &a); err != nil {
			return err
		}
	}
	_, dst, _ := net.ParseCIDR("127.0.0.0/8")
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via), LinkIndex: l.Attrs().Index})
}

func filesBelow(dir string, out *[]string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			*out = append(*out, p)
		}
		return err
	})
}

func pool(subnet string) netdns.Pool { return netdns.Pool{Subnet: netip.MustParsePrefix(subnet)} }
