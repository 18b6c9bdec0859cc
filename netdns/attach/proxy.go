package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/holder"
)

// A proxy carries what comes to an IPv6 address of the host to a container where
// the kernel cannot: into IPv4, and from ::1; and what comes to any address
// while the container behind it is replaced (see Suspend). TCP goes by
// splice(2), which io.Copy does between two TCP connections.
type proxy struct {
	host *Host
	ctx  context.Context // ends with the proxy
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	to    netip.AddrPort
	gate  chan struct{} // closed when those who wait may go to where to says; nil: nobody waits
	end   io.Closer     // what it serves on; nil: nothing for now
	conns map[net.Conn]struct{}
}

func (h *Host) newProxy() *proxy {
	ctx, stop := context.WithCancel(context.Background())
	return &proxy{host: h, ctx: ctx, stop: stop, conns: map[net.Conn]struct{}{}}
}

// idle ends a UDP association nobody used for so long.
const idle = 90 * time.Second

func proxyKey(protocol string, at netip.AddrPort) string { return protocol + " " + at.String() }

// startProxies serves those publications that need it on their reservations. One
// that a keeper before has listened on may have clients that wait.
func (h *Host) startProxies(ctx context.Context, pubs []netdns.Publication, files []*os.File) error {
	for _, p := range pubs {
		for _, f := range files {
			at := bound(f)
			if !reserves(f, p) {
				continue
			}
			lasting := at.Addr().Is6() && proxied(p)
			if !lasting && !listens(f) {
				continue
			}
			if err := h.startProxy(p, f, at, lasting); err != nil {
				return fmt.Errorf("serve port %s/%s: %w", at, p.Protocol, err)
			}
		}
	}
	return nil
}

// reserves says whether a reservation is one of a publication's.
func reserves(f *os.File, p netdns.Publication) bool {
	at := bound(f)
	return at.Port() == p.HostPort && protocolOf(f) == p.Protocol && (!p.HostIP.IsValid() || p.HostIP == at.Addr())
}

func (h *Host) startProxy(p netdns.Publication, f *os.File, at netip.AddrPort, lasting bool) (err error) {
	x := h.newProxy()
	x.to = behind(p, at.Addr())
	if p.Protocol == "udp" {
		err = x.serveUDP(x.ctx, f)
	} else if err = x.serveTCP(f); err == nil && !lasting {
		x.retire()
	}
	if err != nil {
		x.stop()
		return err
	}
	key := proxyKey(p.Protocol, at)
	h.mu.Lock()
	old := h.proxies[key]
	h.proxies[key] = x
	h.mu.Unlock()
	if old != nil {
		old.close()
	}
	return nil
}

// behind is where a proxy leads that serves a publication on an address: into
// the same family, where the container has one.
func behind(p netdns.Publication, on netip.Addr) netip.AddrPort {
	to, other := p.To, p.To6
	if on.Is6() {
		to, other = p.To6, p.To
	}
	if !to.IsValid() {
		to = other
	}
	return netip.AddrPortFrom(to, p.ContainerPort)
}

func (h *Host) stopProxies(pubs []netdns.Publication) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range pubs {
		for _, a := range holder.Addresses(p.HostIP) {
			key := proxyKey(p.Protocol, netip.AddrPortFrom(a, p.HostPort))
			if x := h.proxies[key]; x != nil {
				x.close()
				delete(h.proxies, key)
			}
		}
	}
}

func (x *proxy) close() {
	x.stop()
	x.mu.Lock()
	if x.end != nil {
		x.end.Close()
	}
	for c := range x.conns {
		if t, ok := c.(*net.TCPConn); ok && x.gate != nil {
			_ = t.SetLinger(0) // they waited for nothing, and are to know
		}
		c.Close()
	}
	x.mu.Unlock()
	x.wg.Wait()
}

// keep counts a connection among those that close ends; false after close.
func (x *proxy) keep(c net.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ctx.Err() != nil {
		c.Close()
		return false
	}
	x.conns[c] = struct{}{}
	return true
}

func (x *proxy) drop(c net.Conn) {
	c.Close()
	x.mu.Lock()
	delete(x.conns, c)
	x.mu.Unlock()
}

// serveTCP listens on a reservation.
func (x *proxy) serveTCP(f *os.File) error {
	if err := unix.Listen(int(f.Fd()), 4096); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	x.end = l
	x.wg.Add(1)
	go func() {
		defer x.wg.Done()
		x.accept(l.(*net.TCPListener))
	}()
	return nil
}

func (x *proxy) accept(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			if x.unlisten(l) {
				return
			}
		case err != nil: // out of descriptors: those who wait are served later
			time.Sleep(10 * time.Millisecond)
		case x.keep(c):
			reusable(c)
			x.wg.Add(1)
			go x.carry(c)
		}
	}
}

// reusable has the memory of a closed connection (TIME_WAIT) keep nobody from
// the port who sets SO_REUSEADDR too, as servers do.
func reusable(c *net.TCPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}
}

// dial connects to the container, once there is one.
func (x *proxy) dial(ctx context.Context, network string) (c net.Conn, err error) {
	to, err := x.target(ctx)
	if err != nil {
		return nil, err
	}
	err = x.host.do(func() error {
		c, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, to.String())
		return err
	})
	return c, err
}

func (x *proxy) carry(in *net.TCPConn) {
	defer x.wg.Done()
	defer x.drop(in)
	var c net.Conn
	err := x.host.admit(in)
	if err == nil {
		c, err = x.dial(x.ctx, "tcp")
	}
	if err != nil {
		_ = in.SetLinger(0) // the client sees a reset, as if it had met the container
		return
	}
	if !x.keep(c) {
		return
	}
	defer x.drop(c)
	out := c.(*net.TCPConn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, in)
		_ = out.CloseWrite()
	}()
	_, _ = io.Copy(in, out)
	_ = in.CloseWrite()
	<-done
}
