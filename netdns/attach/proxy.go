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
// the kernel cannot: into IPv4, and from ::1. TCP goes by
// splice(2), which io.Copy does between two TCP connections.
type proxy struct {
	host *Host
	to   netip.AddrPort
	stop context.CancelFunc
	end  io.Closer
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// idle ends a UDP association nobody used for so long.
const idle = 90 * time.Second

func proxyKey(protocol string, at netip.AddrPort) string { return protocol + " " + at.String() }

// startProxies serves those publications that need it on their reservations.
func (h *Host) startProxies(ctx context.Context, pubs []netdns.Publication, files []*os.File) error {
	for _, p := range pubs {
		if !proxied(p) {
			continue
		}
		for _, f := range files {
			at := bound(f)
			if !at.Addr().Is6() || at.Port() != p.HostPort || protocolOf(f) != p.Protocol {
				continue
			}
			if p.HostIP.IsValid() && p.HostIP != at.Addr() {
				continue
			}
			if err := h.startProxy(p, f, proxyKey(p.Protocol, at)); err != nil {
				return fmt.Errorf("serve port %s/%s: %w", at, p.Protocol, err)
			}
		}
	}
	return nil
}

func (h *Host) startProxy(p netdns.Publication, f *os.File, key string) error {
	ctx, stop := context.WithCancel(context.Background())
	to := p.To6
	if !to.IsValid() {
		to = p.To
	}
	x := &proxy{host: h, to: netip.AddrPortFrom(to, p.ContainerPort), stop: stop, conns: map[net.Conn]struct{}{}}
	var err error
	if p.Protocol == "udp" {
		err = x.serveUDP(ctx, f)
	} else {
		err = x.serveTCP(ctx, f)
	}
	if err != nil {
		stop()
		return err
	}
	h.mu.Lock()
	old := h.proxies[key]
	h.proxies[key] = x
	h.mu.Unlock()
	if old != nil {
		old.close()
	}
	return nil
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
	x.end.Close()
	x.mu.Lock()
	for c := range x.conns {
		c.Close()
	}
	x.mu.Unlock()
	x.wg.Wait()
}

// keep counts a connection among those that close ends; false after close.
func (x *proxy) keep(ctx context.Context, c net.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ctx.Err() != nil {
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

func (x *proxy) serveTCP(ctx context.Context, f *os.File) error {
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
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of descriptors: those who wait are served later
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if x.keep(ctx, c) {
				x.wg.Add(1)
				go x.carry(ctx, c.(*net.TCPConn))
			}
		}
	}()
	return nil
}

func (x *proxy) dial(ctx context.Context, network string) (c net.Conn, err error) {
	err = x.host.do(func() error {
		c, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, x.to.String())
		return err
	})
	return c, err
}

func (x *proxy) carry(ctx context.Context, in *net.TCPConn) {
	defer x.wg.Done()
	defer x.drop(in)
	c, err := x.dial(ctx, "tcp")
	if err != nil {
		_ = in.SetLinger(0) // the client sees a reset, as if it had met the container
		return
	}
	if !x.keep(ctx, c) {
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
