package holder

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// kinds are the protocols that ports are published for, as socket(2) names them.
var kinds = map[string][2]int{
	"tcp":  {unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"udp":  {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
}

// Number is a protocol's number in the IP header, 0 for one that no port is
// published for.
func Number(protocol string) int { return kinds[protocol][1] }

// Bind makes a socket that has the port and does nothing with it. It must not
// have SO_REUSEADDR, which Go's own listeners set: with it a rival that sets it
// too gets the port. The error wraps unix.EADDRINUSE for a port that is taken.
func Bind(protocol string, a netip.Addr, port uint16) (*os.File, error) {
	kind, ok := kinds[protocol]
	if !ok {
		return nil, fmt.Errorf("protocol %q is not tcp, udp or sctp", protocol)
	}
	domain, sa := unix.AF_INET, unix.Sockaddr(nil)
	if a.Is6() {
		domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	fd, err := unix.Socket(domain, kind[0]|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, kind[1])
	if protocol == "sctp" && errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, fmt.Errorf("this kernel has no sctp (CONFIG_IP_SCTP); load its module sctp, or publish another protocol: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s socket: %w", protocol, err)
	}
	if a.Is6() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind %s: %w", netip.AddrPortFrom(a, port), err)
	}
	return os.NewFile(uintptr(fd), protocol+" "+netip.AddrPortFrom(a, port).String()), nil
}

// Addresses are what a published port binds: no host address means every one of
// both families.
func Addresses(host netip.Addr) []netip.Addr {
	if !host.IsValid() {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	return []netip.Addr{host}
}
