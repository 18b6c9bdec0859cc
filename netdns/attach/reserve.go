package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// TakenError says who has a host port that was to be published.
type TakenError struct {
	Port     uint16
	Protocol string
	Process  string // its name, empty when it could not be found
	PID      int
	By       string // a container of davit's that publishes the port, or what else is known
}

func (e *TakenError) Error() string {
	s := fmt.Sprintf("publish port %d/%s: already in use", e.Port, e.Protocol)
	switch {
	case e.By != "":
		return s + " by " + e.By
	case e.Process != "":
		return fmt.Sprintf("%s by %s (pid %d)", s, e.Process, e.PID)
	}
	return s
}

// reserve binds the publication's port on each of its addresses and fills in
// the port where the choice is ours.
func (h *Host) reserve(p *netdns.Publication) ([]*os.File, error) {
	if p.HostPort == 0 {
		return h.reserveAny(p)
	}
	end := max(p.HostPort, p.HostPortEnd)
	for port := p.HostPort; ; port++ {
		files, err := bindAll(*p, port)
		if err == nil {
			p.HostPort, p.HostPortEnd = port, 0
			return files, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("publish port %d/%s: %w", port, p.Protocol, err)
		}
		if port == end {
			return nil, h.taken(*p, port)
		}
	}
}

// reserveAny lets the kernel choose a port of its ephemeral range that is free
// on every address.
func (h *Host) reserveAny(p *netdns.Publication) ([]*os.File, error) {
	var err error
	for range 64 {
		var first *os.File
		a := addresses(*p)
		if first, err = bind(p.Protocol, a[0], 0); err != nil {
			break
		}
		port := bound(first).Port()
		rest := *p
		files := []*os.File{first}
		if len(a) > 1 {
			rest.HostIP = a[1]
			var more []*os.File
			if more, err = bindAll(rest, port); err != nil {
				first.Close()
				continue
			}
			files = append(files, more...)
		}
		p.HostPort, p.HostPortEnd = port, 0
		return files, nil
	}
	return nil, fmt.Errorf("publish a free port for %d/%s: %w", p.ContainerPort, p.Protocol, err)
}

func bindAll(p netdns.Publication, port uint16) ([]*os.File, error) {
	var files []*os.File
	for _, a := range addresses(p) {
		f, err := bind(p.Protocol, a, port)
		if errors.Is(err, unix.EADDRINUSE) && clearTimeWait(p.Protocol, port) {
			f, err = bind(p.Protocol, a, port)
		}
		if err == nil {
			files = append(files, f)
			continue
		}
		without := errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EPROTONOSUPPORT)
		if without && !p.HostIP.IsValid() && a.Is6() {
			continue // a host without IPv6
		}
		for _, f := range files {
			f.Close()
		}
		return nil, err
	}
	return files, nil
}

var kinds = map[string][2]int{
	"tcp":  {unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"udp":  {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
}

// bind makes a socket that has the port and does nothing with it. It must not
// have SO_REUSEADDR, which Go's own listeners set: with it a rival that sets it
// too gets the port.
func bind(protocol string, a netip.Addr, port uint16) (*os.File, error) {
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

// bound is the address a socket has.
func bound(f *os.File) netip.AddrPort {
	sa, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// protocolOf is the protocol of a socket, as publications name it.
func protocolOf(f *os.File) string {
	n, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PROTOCOL)
	for name, k := range kinds {
		if err == nil && k[1] == n {
			return name
		}
	}
	return ""
}
