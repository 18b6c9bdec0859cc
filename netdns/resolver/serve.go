package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Config says for whom a resolver answers.
type Config struct {
	Container string
	Project   string
	Networks  []string // names of the networks it is on
	Internal  bool     // all of them are internal: nobody outside is asked
	Directory *Directory
	// LinkAliases are NAME:ALIAS: the container alone knows NAME as ALIAS too.
	LinkAliases []string
	// Servers are asked from the container's namespace, NS. Without any, the
	// host's own are asked from the host's.
	Servers []netip.AddrPort
	NS      *os.File
	// Timeout and Attempts are for Servers, as dns_opt has them; 0 means 5 s
	// and 2, as in resolv.conf(5). The host's servers have the host's options.
	Timeout  time.Duration
	Attempts int
	Rotate   bool
	// HostConf is the host's resolv.conf, read again whenever it changes;
	// empty means /etc/resolv.conf. HostNS is where its servers are asked
	// from; nil means where davit runs.
	HostConf string
	HostNS   *os.File
}

const (
	mostAsking  = 256  // questions of one container that wait for an answer from outside
	mostOutside = 1024 // of all containers in this process
	mostStreams = 128  // TCP connections of one container
	streamIdle  = 10 * time.Second
)

// outside counts all questions that wait for an answer from outside.
var outside = make(chan struct{}, mostOutside)

type server struct {
	c      Config
	links  map[string][]byte
	turn   atomic.Uint32
	asking chan struct{}
	up     *upstream
	wg     sync.WaitGroup
}

// Serve answers what comes to the sockets until ctx ends; then it returns nil.
// The sockets stay open.
func Serve(ctx context.Context, s *Sockets, c Config) error {
	for _, n := range c.Networks {
		if err := c.Directory.Follow(n); err != nil {
			return err
		}
	}
	udp, tcp, err := s.conns()
	if err != nil {
		return err
	}
	srv := &server{c: c, links: links(c.LinkAliases), asking: make(chan struct{}, mostAsking), up: newUpstream(c)}
	stop := context.AfterFunc(ctx, func() { udp.Close(); tcp.Close() })
	defer stop()
	srv.wg.Add(1)
	go func() {
		defer srv.wg.Done()
		srv.streams(ctx, tcp)
	}()
	err = srv.datagrams(ctx, udp)
	udp.Close()
	tcp.Close()
	srv.wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func links(aliases []string) map[string][]byte {
	out := map[string][]byte{}
	for _, l := range aliases {
		if name, alias, ok := strings.Cut(strings.ToLower(l), ":"); ok && name != "" && alias != "" {
			out[alias] = []byte(name)
		}
	}
	return out
}

// datagrams answers in the loop what is known here: a lookup costs less than
// handing it to another goroutine.
func (s *server) datagrams(ctx context.Context, u *net.UDPConn) error {
	in, out := make([]byte, mostUDP), make([]byte, 0, mostUDP)
	var q query
	for {
		n, from, err := u.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			continue // an ICMP error of an earlier answer
		}
		msg, ok := s.quick(&q, in[:n], out)
		if !ok {
			s.askLater(ctx, u, from, in[:n], out)
			continue
		}
		if msg != nil {
			_, _ = u.WriteToUDPAddrPort(msg, from)
		}
	}
}

// quick answers at once, unless the outside must be asked: then ok is false. A
// nil message means no answer at all.
func (s *server) quick(q *query, in, out []byte) (msg []byte, ok bool) {
	if err := q.parse(in); err != nil {
		return s.malformed(q, out), true
	}
	return s.local(q, out, q.size)
}

func (s *server) malformed(q *query, out []byte) []byte {
	if len(q.msg) < headerSize || q.flags()&flagResponse != 0 {
		return nil // not even a question: answering could make a loop
	}
	return q.refuse(out, dnsmessage.RCodeFormatError)
}

// enter takes a place among those who wait for the outside.
func (s *server) enter() bool {
	select {
	case s.asking <- struct{}{}:
	default:
		return false
	}
	select {
	case outside <- struct{}{}:
		return true
	default:
		<-s.asking
		return false
	}
}

func (s *server) leave() {
	<-outside
	<-s.asking
}

func (s *server) askLater(ctx context.Context, u *net.UDPConn, from netip.AddrPort, in, out []byte) {
	var q query
	if !s.enter() {
		if q.parse(in) == nil {
			_, _ = u.WriteToUDPAddrPort(q.refuse(out, dnsmessage.RCodeServerFailure), from)
		}
		return
	}
	msg := append([]byte(nil), in...)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer s.leave()
		var q query
		if q.parse(msg) != nil {
			return
		}
		_, _ = u.WriteToUDPAddrPort(s.forward(ctx, &q, "udp", q.size), from)
	}()
}

// forward asks the outside and returns its answer, or that there is none.
func (s *server) forward(ctx context.Context, q *query, network string, limit int) []byte {
	msg, err := s.up.ask(ctx, q, network)
	if err != nil {
		return q.refuse(nil, dnsmessage.RCodeServerFailure)
	}
	return q.passOn(msg, limit)
}

// passOn makes an answer from outside the asker's: with its id, and cut to
// nothing but the question, to be asked for again over TCP, where it does not
// fit.
func (q *query) passOn(msg []byte, limit int) []byte {
	copy(msg, q.msg[:2])
	if len(msg) > limit {
		a := q.reply(nil, limit)
		a.full = true
		return a.finish(dnsmessage.RCode(msg[3]&0xf), false)
	}
	return msg
}

func (s *server) streams(ctx context.Context, l *net.TCPListener) {
	places := make(chan struct{}, mostStreams)
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			c.Close()
			continue
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer func() { <-places }()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			s.stream(ctx, c)
		}()
	}
}

// stream answers the questions of one connection, one after the other.
func (s *server) stream(ctx context.Context, c net.Conn) {
	var size [2]byte
	var q query
	for {
		_ = c.SetDeadline(time.Now().Add(streamIdle))
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		in := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, in); err != nil {
			return
		}
		msg := s.onStream(ctx, &q, in)
		if msg == nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(streamIdle))
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
			return
		}
	}
}

func (s *server) onStream(ctx context.Context, q *query, in []byte) []byte {
	if err := q.parse(in); err != nil {
		return s.malformed(q, nil)
	}
	if msg, ok := s.local(q, nil, mostTCP); ok {
		return msg
	}
	if !s.enter() {
		return q.refuse(nil, dnsmessage.RCodeServerFailure)
	}
	defer s.leave()
	return s.forward(ctx, q, "tcp", mostTCP)
}
