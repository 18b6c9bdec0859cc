package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/netns"
)

// defaults are the sysctls of a fresh namespace. IPv6 stays off on links until
// an endpoint has an IPv6 address, and no router advertisement is ever believed
// (CVE-2020-13401); addresses are leased, so nobody need look for duplicates first; ports below 1024 and ping need no capability, as in Docker;
// a link that comes up announces itself, so that neighbours find a restarted
// container at once.
var defaults = [][2]string{
	{"ipv6/conf/default/disable_ipv6", "1"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/all/accept_ra", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	{"ipv6/conf/default/ndisc_notify", "1"},
	{"ipv4/conf/default/arp_notify", "1"},
	{"ipv4/ip_unprivileged_port_start", "0"},
	{"ipv4/ping_group_range", "0 2147483647"},
}

// New makes a network namespace with lo up. The caller owns the descriptor.
func New() (*os.File, error) {
	return netns.New(func() error {
		for _, s := range defaults {
			if err := Sysctl(s[0], s[1]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return up("lo")
	})
}

// Sysctl writes a value below /proc/sys/net of the thread's namespace. The
// error wraps fs.ErrNotExist where the kernel has no such setting.
func Sysctl(path, value string) error {
	fd, err := unix.Open("/proc/sys/net/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0) // os.File would enter it into the poller
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("set sysctl net/%s to %s: %w", path, value, err)
	}
	return nil
}

// up brings a link up by ioctl: a netlink socket would cost more than that.
func up(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

// A Link is an endpoint's interface as the container is to see it.
type Link struct {
	Name      string
	Addresses []netip.Prefix
	Gateways  []netip.Addr // default routes, one per family; none: no way out here
}

// Configure gives a link that is already in namespace ns its addresses, brings
// it up and sets the default routes. A default route that is there is replaced.
func Configure(ns *os.File, l Link) error {
	return netns.In(ns, func() error {
		if err := enableIPv6(l); err != nil {
			return err
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		defer h.Close()
		link, err := h.LinkByName(l.Name)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", l.Name, err)
		}
		if err := address(h, link, l.Addresses); err != nil {
			return err
		}
		if err := h.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up interface %s: %w", l.Name, err)
		}
		if err := settle(h, link, l.Addresses); err != nil {
			return err
		}
		for _, g := range l.Gateways {
			r := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: g.AsSlice(), Dst: everything(g.Is6())}
			if err := h.RouteReplace(r); err != nil {
				return fmt.Errorf("route interface %s through %s: %w", l.Name, g, err)
			}
		}
		return nil
	})
}

func enableIPv6(l Link) error {
	for _, p := range l.Addresses {
		if p.Addr().Is6() {
			return Sysctl("ipv6/conf/"+l.Name+"/disable_ipv6", "0")
		}
	}
	return nil
}

func address(h *netlink.Handle, link netlink.Link, addrs []netip.Prefix) error {
	for _, p := range addrs {
		n := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		// Not IFA_F_NODAD: then the kernel would announce nothing, see settle.
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: n}); err != nil {
			return fmt.Errorf("address interface %s with %s: %w", link.Attrs().Name, p, err)
		}
	}
	return nil
}

// settle waits until the kernel's address work has run: only then does it hear
// who asks for its IPv6 addresses, and only then can one be bound. Whoever asked
// before gets the announcement (ndisc_notify) instead of waiting a second.
func settle(h *netlink.Handle, link netlink.Link, addrs []netip.Prefix) error {
	if !slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		return nil
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		have, err := h.AddrList(link, netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("look at addresses of %s: %w", link.Attrs().Name, err)
		}
		tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
		if err == nil && !slices.ContainsFunc(have, tentative) {
			return nil
		}
	}
	return nil // late, but not lost
}

func everything(ipv6 bool) *net.IPNet {
	if ipv6 {
		return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
}

// Macvlan makes a macvlan link called name inside ns, on the host's link with
// the given index. mode is bridge, vepa, private or passthru; empty is bridge.
func Macvlan(ns *os.File, parent int, name, mode string, mac net.HardwareAddr) error {
	modes := map[string]netlink.MacvlanMode{
		"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE,
		"vepa": netlink.MACVLAN_MODE_VEPA, "private": netlink.MACVLAN_MODE_PRIVATE,
		"passthru": netlink.MACVLAN_MODE_PASSTHRU,
	}
	m, ok := modes[mode]
	if !ok {
		return fmt.Errorf("macvlan_mode %q: use bridge, vepa, private or passthru", mode)
	}
	attrs := born(ns, parent, name)
	attrs.HardwareAddr = mac
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: m}); err != nil {
		return fmt.Errorf("make macvlan %s: %w", name, err)
	}
	return nil
}

// IPvlan makes an ipvlan link called name inside ns; mode is l2, l3 or l3s, and
// l2 when empty.
func IPvlan(ns *os.File, parent int, name, mode string) error {
	modes := map[string]netlink.IPVlanMode{
		"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2,
		"l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
	}
	m, ok := modes[mode]
	if !ok {
		return fmt.Errorf("ipvlan_mode %q: use l2, l3 or l3s", mode)
	}
	err := netlink.LinkAdd(&netlink.IPVlan{LinkAttrs: born(ns, parent, name), Mode: m})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("make ipvlan %s: this kernel has no ipvlan; use driver macvlan or bridge", name)
	}
	if err != nil {
		return fmt.Errorf("make ipvlan %s: %w", name, err)
	}
	return nil
}

func born(ns *os.File, parent int, name string) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.Namespace = name, parent, netlink.NsFd(ns.Fd())
	return attrs
}

// Free returns the first name eth0, eth1, … that no link in ns has.
func Free(ns *os.File, prefix string) (string, error) {
	name := ""
	err := netns.In(ns, func() error {
		for i := 0; ; i++ {
			name = fmt.Sprintf("%s%d", prefix, i)
			if _, err := os.Lstat("/proc/sys/net/ipv4/conf/" + name); errors.Is(err, fs.ErrNotExist) {
				return nil
			} else if err != nil {
				return fmt.Errorf("look for interface %s: %w", name, err)
			}
		}
	})
	return name, err
}

// Unplug removes a link from inside ns; one that is not there is no error.
func Unplug(ns *os.File, name string) error {
	return netns.In(ns, func() error {
		link, err := netlink.LinkByName(name)
		if _, gone := err.(netlink.LinkNotFoundError); gone {
			return nil
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove interface %s: %w", name, err)
		}
		return nil
	})
}
