package resolver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/davit-run/davit/netdns/netns"
)

// upstream asks servers outside.
type upstream struct {
	ns      *os.File // where sockets are made; nil: where davit runs
	fixed   *conf    // of the container's own; nil: the host's
	host    string   // path of the host's resolv.conf
	turn    atomic.Uint32
	mu      sync.Mutex
	read    *conf
	changed os.FileInfo
}

// conf is what resolv.conf(5) says, as far as it concerns asking.
type conf struct {
	servers  []netip.AddrPort
	timeout  time.Duration
	attempts int
	rotate   bool
}

func newUpstream(c Config) *upstream {
	if len(c.Servers) > 0 {
		f := &conf{servers: c.Servers, timeout: c.Timeout, attempts: c.Attempts, rotate: c.Rotate}
		f.defaults()
		return &upstream{ns: c.NS, fixed: f}
	}
	u := &upstream{ns: c.HostNS, host: c.HostConf}
	if u.host == "" {
		u.host = "/etc/resolv.conf"
	}
	return u
}

func (c *conf) defaults() {
	if c.timeout <= 0 {
		c.timeout = 5 * time.Second
	}
	if c.attempts <= 0 {
		c.attempts = 2
	}
}

// conf returns the servers, reading the host's file again when it is another
// one than last time.
func (u *upstream) conf() (*conf, error) {
	if u.fixed != nil {
		return u.fixed, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	i, err := os.Stat(u.host)
	if err != nil {
		return nil, fmt.Errorf("read the host's resolver configuration: %w", err)
	}
	if u.read != nil && os.SameFile(i, u.changed) && i.ModTime().Equal(u.changed.ModTime()) && i.Size() == u.changed.Size() {
		return u.read, nil
	}
	b, err := os.ReadFile(u.host)
	if err != nil {
		return nil, fmt.Errorf("read the host's resolver configuration: %w", err)
	}
	u.read, u.changed = parseConf(b), i
	return u.read, nil
}

// parseConf reads a resolv.conf; what it does not know it leaves out.
func parseConf(b []byte) *conf {
	c := &conf{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(c.servers) < 3 { // MAXNS
				c.servers = append(c.servers, netip.AddrPortFrom(a, 53))
			}
		case "options":
			for _, o := range f[1:] {
				c.option(o)
			}
		}
	}
	c.defaults()
	return c
}

func (c *conf) option(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "rotate":
		c.rotate = true
	case err != nil:
	case name == "timeout":
		c.timeout = time.Duration(min(n, 30)) * time.Second // RES_MAXRETRANS
	case name == "attempts":
		c.attempts = min(n, 5) // RES_MAXRETRY
	}
}

var errNoServer = errors.New("no name server answered")

// ask asks one server after the other, as often as the configuration says, and
// returns the first answer that is one. A server that fails or refuses is
// passed over; if none does better its answer is the answer.
func (u *upstream) ask(ctx context.Context, q *query, network string) ([]byte, error) {
	c, err := u.conf()
	if err != nil {
		return nil, err
	}
	turn := 0
	if c.rotate {
		turn = int(u.turn.Add(1))
	}
	var worst []byte
	for range c.attempts {
		for i := range c.servers {
			server := c.servers[(i+turn)%len(c.servers)]
			msg, err := u.once(ctx, q, network, server, c.timeout)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				continue
			}
			switch dnsmessage.RCode(msg[3] & 0xf) {
			case dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented:
				worst = msg
				continue
			}
			return msg, nil
		}
		if worst != nil {
			return worst, nil
		}
	}
	return nil, errNoServer
}

// once asks one server once: from a fresh socket, whose port the kernel picks
// at random, under a random id, so that nobody off the path can guess both.
func (u *upstream) once(ctx context.Context, q *query, network string, server netip.AddrPort, timeout time.Duration) ([]byte, error) {
	var conn net.Conn
	err := netns.In(u.ns, func() (err error) {
		conn, err = (&net.Dialer{Timeout: timeout}).DialContext(ctx, network, server.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	msg := bytes.Clone(q.msg)
	_, _ = rand.Read(msg[:2]) // never fails, see crypto/rand
	if network == "tcp" {
		return overTCP(conn, q, msg)
	}
	if _, err := conn.Write(msg); err != nil {
		return nil, err
	}
	in := make([]byte, mostUDP)
	for {
		n, err := conn.Read(in)
		if err != nil {
			return nil, err
		}
		if answers(in[:n], msg, q) {
			return in[:n], nil
		}
	}
}

func overTCP(conn net.Conn, q *query, msg []byte) ([]byte, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	in := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, in); err != nil {
		return nil, err
	}
	if !answers(in, msg, q) {
		return nil, errMalformed
	}
	return in, nil
}

// answers says whether a message is the answer to the one we sent: its id, its
// question, and no other question. Letters may differ in case: not every server
// keeps them.
func answers(in, sent []byte, q *query) bool {
	var p dnsmessage.Parser
	h, err := p.Start(in)
	if err != nil || !h.Response || h.ID != binary.BigEndian.Uint16(sent) {
		return false
	}
	end := headerSize + len(q.question)
	if len(in) < end || binary.BigEndian.Uint16(in[4:]) != 1 {
		return len(in) == headerSize && h.RCode != dnsmessage.RCodeSuccess // a bare refusal
	}
	return bytes.EqualFold(in[headerSize:end-4], q.question[:len(q.question)-4]) &&
		bytes.Equal(in[end-4:end], q.question[len(q.question)-4:])
}
