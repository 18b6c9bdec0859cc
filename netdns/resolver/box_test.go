package resolver

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/records"
)

// patience is how long a busy machine may take for what must come.
const patience = time.Minute

// box is a container's namespace with a resolver, and a directory of endpoints.
type box struct {
	t    testing.TB
	ns   *os.File
	rec  *records.Files
	dir  *Directory
	s    *Sockets
	stop context.CancelFunc
	done chan struct{}
}

func newBox(t testing.TB, c Config) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes network namespaces: needs root")
	}
	b := &box{t: t, ns: kernel.Namespace(t), rec: &records.Files{Root: t.TempDir()}}
	var err error
	b.dir, err = OpenDirectory(b.rec)
	must(t, err)
	b.s, err = Open(b.ns)
	must(t, err)
	t.Cleanup(func() { b.halt(); b.s.Close(); b.dir.Close() })
	b.serve(c)
	return b
}

func (b *box) serve(c Config) {
	b.t.Helper()
	c.Directory = b.dir
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.done = stop, make(chan struct{})
	for _, n := range c.Networks {
		must(b.t, b.dir.Follow(n))
	}
	go func() {
		defer close(b.done)
		if err := Serve(ctx, b.s, c); err != nil {
			b.t.Error(err)
		}
	}()
}

func (b *box) halt() {
	if b.stop != nil {
		b.stop()
		<-b.done
	}
	b.stop = nil
}

// put records an endpoint and waits until the directory knows it.
func (b *box) put(ep netdns.Endpoint) {
	b.t.Helper()
	must(b.t, b.rec.Write(key(ep.Network)+"/"+ep.Container, ep))
	b.until(ep.Name+" is known", func() bool {
		b.dir.mu.RLock()
		defer b.dir.mu.RUnlock()
		z := b.dir.zones[ep.Network]
		return z != nil && z.endpoints[ep.Container].IPv4 == ep.IPv4
	})
}

func (b *box) until(what string, ok func() bool) {
	b.t.Helper()
	kernel.Eventually(b.t, patience, what, ok)
}

func (b *box) dial(network string) *dns.Conn {
	b.t.Helper()
	var c net.Conn
	must(b.t, netns.In(b.ns, func() (err error) {
		c, err = net.DialTimeout(network, "127.0.0.11:53", patience)
		return err
	}))
	_ = c.SetDeadline(time.Now().Add(patience))
	return &dns.Conn{Conn: c, UDPSize: 65535}
}

func (b *box) exchange(network string, m *dns.Msg) *dns.Msg {
	b.t.Helper()
	c := b.dial(network)
	defer c.Close()
	must(b.t, c.WriteMsg(m))
	r, err := c.ReadMsg()
	must(b.t, err)
	if r.Id != m.Id || !r.Response {
		b.t.Errorf("answer: id %d for %d, response %v", r.Id, m.Id, r.Response)
	}
	return r
}

func (b *box) ask(name string, kind uint16) *dns.Msg {
	b.t.Helper()
	return b.exchange("udp", new(dns.Msg).SetQuestion(dns.Fqdn(name), kind))
}

// said is an answer in short: the code, or the records' data.
func said(m *dns.Msg) string {
	if m.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[m.Rcode]
	}
	var out []string
	for _, r := range m.Answer {
		switch r := r.(type) {
		case *dns.A:
			out = append(out, r.A.String())
		case *dns.AAAA:
			out = append(out, r.AAAA.String())
		case *dns.PTR:
			out = append(out, r.Ptr)
		default:
			out = append(out, r.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func endpoint(network, project, name, v4 string, names ...string) netdns.Endpoint {
	return netdns.Endpoint{
		Network: network, Project: project, Container: "c-" + project + name, Name: name,
		Names: names, IPv4: netip.MustParseAddr(v4),
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
