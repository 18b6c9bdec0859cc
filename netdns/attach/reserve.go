package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/holder"
)

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
			return nil, holder.Taken(h.rec, p.Protocol, port)
		}
	}
}

// reserveAny lets the kernel choose a port of its ephemeral range that is free
// on every address.
func (h *Host) reserveAny(p *netdns.Publication) ([]*os.File, error) {
	var err error
	for range 64 {
		var first *os.File
		a := holder.Addresses(p.HostIP)
		if first, err = holder.Bind(p.Protocol, a[0], 0); err != nil {
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
	for _, a := range holder.Addresses(p.HostIP) {
		f, err := holder.Bind(p.Protocol, a, port)
		if errors.Is(err, unix.EADDRINUSE) && clearTimeWait(p.Protocol, port) {
			f, err = holder.Bind(p.Protocol, a, port)
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
	for _, name := range []string{"tcp", "udp", "sctp"} {
		if err == nil && holder.Number(name) == n {
			return name
		}
	}
	return ""
}
