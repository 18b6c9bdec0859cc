package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/holder"
	"github.com/davit-run/davit/netdns/sandbox"
)

// Suspend has the clients of TCP ports wait while the container behind them is
// replaced: who connects from now on is accepted on the reservation, and goes
// to the container that Lead names. The price is that this container sees the
// bridge's address as theirs. Connections that stand go on as they are, and
// ports of other protocols stay as they are. It is idempotent; Unpublish ends
// it, and sends away those who wait.
func (h *Host) Suspend(ctx context.Context, pubs []netdns.Publication, files []*os.File) error {
	pubs = netdns.TCP(pubs)
	for _, p := range pubs {
		for _, f := range files {
			if !reserves(f, p) {
				continue
			}
			if err := h.suspend(f); err != nil {
				return fmt.Errorf("have clients of port %d wait: %w", p.HostPort, err)
			}
		}
	}
	if err := h.withdraw(pubs); err != nil {
		return fmt.Errorf("have clients wait: %w", err)
	}
	return nil
}

func (h *Host) suspend(f *os.File) error {
	key := proxyKey("tcp", bound(f))
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.proxies[key]
	if x == nil {
		x = h.newProxy()
		h.proxies[key] = x
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gate == nil {
		x.gate = make(chan struct{})
	}
	if l, ok := x.end.(*net.TCPListener); ok {
		return l.SetDeadline(time.Time{})
	}
	return x.serveTCP(f)
}

// Doors begins to look at who listens in a container's namespace; the caller
// ends it.
func (h *Host) Doors(ns *os.File) (netdns.Doors, error) { return sandbox.OpenDoors(ns) }

// Lead leads suspended ports to the container that publishes them now, and lets
// those go there who wait. Ports that are not suspended are left alone.
func (h *Host) Lead(ctx context.Context, pubs []netdns.Publication) error {
	pubs = slices.DeleteFunc(slices.Clone(pubs), func(p netdns.Publication) bool { return len(h.waiting(p)) == 0 })
	if err := h.install(pubs); err != nil {
		return err
	}
	for _, p := range pubs {
		for on, x := range h.waiting(p) {
			x.lead(behind(p, on), on.Is6() && proxied(p))
		}
	}
	return nil
}

// waiting are the proxies of a publication whose clients wait, by address.
func (h *Host) waiting(p netdns.Publication) map[netip.Addr]*proxy {
	if p.Protocol != "tcp" {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[netip.Addr]*proxy{}
	for _, on := range holder.Addresses(p.HostIP) {
		if x := h.proxies[proxyKey("tcp", netip.AddrPortFrom(on, p.HostPort))]; x != nil && x.waits() {
			out[on] = x
		}
	}
	return out
}

// Forget ends what the kernel remembers of connections that were led to
// containers which have ended. It is idempotent.
func (h *Host) Forget(ctx context.Context, pubs []netdns.Publication) error {
	return h.do(func() error { return forgetFlows(pubs, false) })
}

// takeOver finds the suspended reservations that publications can have, and
// fills in their ports; claimed says for which it did. The others are closed.
func (h *Host) takeOver(pubs []netdns.Publication, suspended []*os.File) (files []*os.File, claimed map[int]bool) {
	claimed = map[int]bool{}
	for i := range pubs {
		mine := claim(pubs[i], suspended)
		if len(mine) == 0 {
			continue
		}
		pubs[i].HostPort, pubs[i].HostPortEnd = bound(mine[0]).Port(), 0
		claimed[i], files = true, append(files, mine...)
		suspended = slices.DeleteFunc(slices.Clone(suspended), func(f *os.File) bool { return slices.Contains(mine, f) })
	}
	for _, f := range suspended {
		at := bound(f)
		h.stopProxies([]netdns.Publication{{Protocol: "tcp", HostIP: at.Addr(), HostPort: at.Port()}})
		f.Close()
	}
	return files, claimed
}

// claim returns the reservations among files that are what a publication asks
// for: one for each of its addresses, on one port that it may have. On a host
// without IPv6 the first will do.
func claim(p netdns.Publication, files []*os.File) []*os.File {
	if p.Protocol != "tcp" {
		return nil
	}
	on := holder.Addresses(p.HostIP)
	for _, f := range files {
		at := bound(f)
		fits := p.HostPort == 0 || at.Port() >= p.HostPort && at.Port() <= max(p.HostPort, p.HostPortEnd)
		if at.Addr() != on[0] || !fits {
			continue
		}
		mine := []*os.File{f}
		for _, g := range files {
			if other := bound(g); g != f && other.Port() == at.Port() && slices.Contains(on, other.Addr()) {
				mine = append(mine, g)
			}
		}
		return mine
	}
	return nil
}

// target is where the container is; while its clients wait, so does this.
func (x *proxy) target(ctx context.Context) (netip.AddrPort, error) {
	for {
		x.mu.Lock()
		to, gate := x.to, x.gate
		x.mu.Unlock()
		if gate == nil {
			return to, nil
		}
		select {
		case <-gate:
		case <-ctx.Done():
			return to, ctx.Err()
		}
	}
}

func (x *proxy) waits() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.gate != nil
}

// lead lets those go who wait. A lasting proxy serves on; for another the kernel
// leads the way from here.
func (x *proxy) lead(to netip.AddrPort, lasting bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.to = to
	if x.gate != nil {
		close(x.gate)
		x.gate = nil
	}
	if !lasting {
		x.retireLocked()
	}
}

// stragglers is how long a client may take to finish a handshake that began
// before the kernel led the way: a few round trips.
const stragglers = 2 * time.Second

// retire has a proxy serve the clients it has, and then leave its port alone.
func (x *proxy) retire() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.retireLocked()
}

func (x *proxy) retireLocked() {
	if l, ok := x.end.(*net.TCPListener); ok {
		_ = l.SetDeadline(time.Now().Add(stragglers))
	}
}

// unlisten makes a listening socket a mere reservation again, unless clients
// wait anew, or some came in time and were not accepted on a busy machine:
// shutdown(2) for reading is that to a listener of Linux, and the port stays
// bound.
func (x *proxy) unlisten(l *net.TCPListener) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.gate != nil {
		return false
	}
	queued := false
	if raw, err := l.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if queued = readable(int(fd)); !queued {
				_ = unix.Shutdown(int(fd), unix.SHUT_RD)
			}
		})
	}
	if queued {
		x.retireLocked()
		return false
	}
	l.Close()
	x.end = nil
	return true
}

// readable says whether a read of fd, or an accept, would find something.
func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1
}

// listens says whether a reservation was made to listen.
func listens(f *os.File) bool {
	n, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && n == 1
}

var errInternal = errors.New("an internal network has no way out")

// admit keeps out containers of internal networks. The rules keep them from
// published ports, but see no more than the host's own port here.
func (h *Host) admit(c *net.TCPConn) error {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if from.IsLoopback() {
		return nil
	}
	all, err := h.standing()
	if err != nil {
		return err
	}
	for _, r := range all {
		inside := func(p netdns.Pool) bool { return p.Subnet.Contains(from) }
		if r.Internal && slices.ContainsFunc(r.Pools, inside) {
			return errInternal
		}
	}
	return nil
}
