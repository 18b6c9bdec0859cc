package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// caller is one who sends datagrams, and the address of ours they came to:
// answers must come from there, or the caller does not take them.
type caller struct {
	from netip.AddrPort
	to   [16]byte
}

// associations are the callers of a UDP port and their sockets to the container.
type associations struct {
	x    *proxy
	in   *net.UDPConn
	mu   sync.Mutex
	outs map[caller]net.Conn
}

func (x *proxy) serveUDP(ctx context.Context, f *os.File) error {
	if err := unix.SetsockoptInt(int(f.Fd()), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
		return fmt.Errorf("serve datagrams: %w", err)
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return fmt.Errorf("serve datagrams: %w", err)
	}
	a := &associations{x: x, in: c.(*net.UDPConn), outs: map[caller]net.Conn{}}
	x.end = a.in
	x.wg.Add(1)
	go func() {
		defer x.wg.Done()
		a.run(ctx)
	}()
	return nil
}

func (a *associations) run(ctx context.Context) {
	buf, oob := make([]byte, 65536), make([]byte, 128)
	for {
		n, m, _, from, err := a.in.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		out, err := a.out(ctx, caller{from, destination(oob[:m])})
		if err != nil {
			continue
		}
		_ = out.SetReadDeadline(time.Now().Add(idle))
		_, _ = out.Write(buf[:n])
	}
}

// out returns the socket that speaks to the container for a caller.
func (a *associations) out(ctx context.Context, c caller) (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if out := a.outs[c]; out != nil {
		return out, nil
	}
	out, err := a.x.dial(ctx, "udp")
	if err != nil {
		return nil, err
	}
	if !a.x.keep(out) {
		return nil, net.ErrClosed
	}
	a.outs[c] = out
	a.x.wg.Add(1)
	go a.answer(out, c)
	return out, nil
}

// answer carries a container's datagrams back until nobody has spoken for long.
func (a *associations) answer(out net.Conn, c caller) {
	defer a.x.wg.Done()
	defer func() {
		a.mu.Lock()
		delete(a.outs, c)
		a.mu.Unlock()
		a.x.drop(out)
	}()
	// Answers come from where the question went (RFC 3542).
	buf, oob := make([]byte, 65536), unix.PktInfo6(&unix.Inet6Pktinfo{Addr: c.to})
	for {
		n, err := out.Read(buf)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return
		}
		_ = out.SetReadDeadline(time.Now().Add(idle))
		_, _, _ = a.in.WriteMsgUDPAddrPort(buf[:n], oob, c.from)
	}
}

// destination is the address a datagram came to, from its IPV6_PKTINFO.
func destination(oob []byte) (to [16]byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return to
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16 {
			copy(to[:], m.Data)
		}
	}
	return to
}
