package resolver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/netns"
)

// Address is where a container finds its resolver, on port 53.
var Address = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Sockets are a container's two resolver sockets. They listen on random ports
// of 127.0.0.11 in its namespace, so that the container may bind port 53
// itself. They outlive their process in a fd store: what is asked meanwhile
// waits in them.
type Sockets struct {
	UDP, TCP *os.File
}

// Close closes both.
func (s *Sockets) Close() error { return errors.Join(s.UDP.Close(), s.TCP.Close()) }

// Open makes the sockets in namespace ns, and the rewrite that leads port 53 of
// 127.0.0.11 to them.
func Open(ns *os.File) (*Sockets, error) {
	s := &Sockets{}
	err := netns.In(ns, func() (err error) {
		if s.UDP, err = listen(unix.SOCK_DGRAM, "dns udp"); err != nil {
			return err
		}
		if s.TCP, err = listen(unix.SOCK_STREAM, "dns tcp"); err != nil {
			return err
		}
		return rewrite(port(s.UDP), port(s.TCP))
	})
	if err != nil {
		for _, f := range []*os.File{s.UDP, s.TCP} {
			if f != nil {
				f.Close()
			}
		}
		return nil, fmt.Errorf("open resolver: %w", err)
	}
	return s, nil
}

func listen(kind int, name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: Address.As4()}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind %s: %w", Address, err)
	}
	if kind == unix.SOCK_DGRAM { // a flood must not push out what else is asked
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 128); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("listen on %s: %w", Address, err)
		}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func port(f *os.File) uint16 {
	sa, err := unix.Getsockname(int(f.Fd()))
	if err != nil {
		return 0
	}
	a, _ := sa.(*unix.SockaddrInet4)
	return uint16(a.Port)
}

// rewrite leads 127.0.0.11:53 to the two ports and back, without conntrack:
// output at raw priority sees both directions, for client and resolver are in
// one namespace, and a packet that is changed before it is tracked needs no
// state. The container's own iptables flush does not reach this table.
func rewrite(udp, tcp uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables socket: %w", err)
	}
	t := &nftables.Table{Name: "davit_dns", Family: nftables.TableFamilyIPv4}
	conn.AddTable(t)
	c := conn.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRaw,
	})
	conn.FlushChain(c) // rather than a new table: hooks are slow to go
	for _, r := range []struct {
		proto byte
		port  uint16
		sum   uint32 // offset of the checksum
	}{{unix.IPPROTO_UDP, udp, 6}, {unix.IPPROTO_TCP, tcp, 16}} {
		to := exprs(r.proto, 16, 2, 53, r.port, r.sum)
		from := exprs(r.proto, 12, 0, r.port, 53, r.sum)
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: to})
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: from})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("lead port 53 to the resolver: %w", err)
	}
	return nil
}

// exprs matches packets with our address at offset addr of the IP header and
// the port is at offset field of the transport header, and sets that to become.
func exprs(proto byte, addr, field uint32, is, become uint16, sum uint32) []expr.Any {
	a := Address.As4()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: addr, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a[:]},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: field, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(is)},
		&expr.Notrack{},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(become)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1,
			Base: expr.PayloadBaseTransportHeader, Offset: field, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: sum,
		},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// conns opens the sockets for Go's poller; closing what it returns leaves the
// files open.
func (s *Sockets) conns() (*net.UDPConn, *net.TCPListener, error) {
	u, err := net.FilePacketConn(s.UDP)
	if err != nil {
		return nil, nil, fmt.Errorf("use resolver socket: %w", err)
	}
	l, err := net.FileListener(s.TCP)
	if err != nil {
		u.Close()
		return nil, nil, fmt.Errorf("use resolver socket: %w", err)
	}
	udp, isUDP := u.(*net.UDPConn)
	tcp, isTCP := l.(*net.TCPListener)
	if !isUDP || !isTCP {
		return nil, nil, errors.Join(errors.New("use resolver socket: not UDP and TCP"), u.Close(), l.Close())
	}
	return udp, tcp, nil
}
