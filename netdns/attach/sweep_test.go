package attach

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/holder"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/records"
)

// long is a tenth of n, or n itself with DAVIT_LONG=1.
func long(n int) int {
	if os.Getenv("DAVIT_LONG") != "" {
		return n
	}
	return n / 10
}

// Somebody flushes the whole ruleset again and again while a container talks to
// another one and tries to get at one it must not reach: what is allowed goes on,
// what is not is closed again within 2 s each time.
func TestFlushUnderTraffic(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	w.network(netdns.Network{Name: "b"})
	a, as := w.container("a", "a")
	peer, _ := w.container("peer", "a")
	b, bs := w.container("b", "b")
	hello(t, a, "a", 80)
	hello(t, b, "b", 80)
	stop, cancel := context.WithCancel(ctx)
	watched := make(chan error)
	go func() { watched <- w.h.Watch(stop) }()
	w.listens()
	var traffic sync.WaitGroup
	var talks, lost atomic.Int64
	traffic.Add(1)
	go func() {
		defer traffic.Done()
		for stop.Err() == nil {
			talks.Add(1)
			if !strings.HasPrefix(ask(peer, "tcp", at(as[0].IPv4, 80)), "a ") {
				lost.Add(1)
			}
		}
	}()
	before := w.table()
	var worst time.Duration
	for range long(100) {
		must(t, netns.In(w.host, func() error { return exec.Command("nft", "flush", "ruleset").Run() }))
		worst = max(worst, eventually(t, "rules", func() bool { return w.table() == before }))
		expect(t, "isolation", knock(a, "tcp", at(bs[0].IPv4, 80)), "closed")
	}
	// Of so many a busy machine may be late with one or two.
	eventually(t, "they talk on", func() bool { return talks.Load() >= 300 })
	cancel()
	traffic.Wait()
	must(t, <-watched)
	t.Logf("%d flushes: back after at most %s; %d exchanges meanwhile, %d lost", long(100), worst, talks.Load(), lost.Load())
	if worst > backAgain {
		t.Errorf("rules are back after %s", worst)
	}
	if talks.Load() == 0 || lost.Load()*100 > talks.Load() { // a busy machine answers one in thousands late
		t.Errorf("%d of %d exchanges on one network were lost", lost.Load(), talks.Load())
	}
}

// listens waits until a watcher would hear of a flush.
func (w *world) listens() {
	eventually(w.t, "somebody listens", func() (listens bool) {
		_ = netns.In(w.host, func() error {
			b, err := os.ReadFile("/proc/thread-self/net/netlink")
			listens = strings.Contains(string(b), " 00000040 ") // the group of nftables
			return err
		})
		return listens
	})
}

// A container that runs is put on a network and taken off it again and again,
// with a port published through it: nothing piles up.
func TestConnectRoundsLeaveNothing(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "stay"})
	w.network(netdns.Network{Name: "visit"})
	c, _ := w.container("c", "stay")
	state := func() string {
		var kept []string
		must(t, filesBelow(w.rec.Root, &kept))
		lease, err := os.ReadFile(w.rec.Path("networks/visit/leases"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		held := strings.Count(string(lease), `"c-c"`)
		return fmt.Sprint(links(t, w.host), kept, held, value(t, w.host, ipForward)) + w.table()
	}
	round := func(publish bool) {
		ep := netdns.Endpoint{Network: "visit", Container: "c-c", Project: "p", Name: "c", Names: []string{"x"}}
		ep, err := w.h.Attach(ctx, c, ep)
		must(t, err)
		if publish {
			pubs, held, err := w.h.Publish(ctx, []netdns.Publication{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp",
				Container: "c-c", Network: "visit", To: ep.IPv4}})
			must(t, err)
			must(t, w.h.Unpublish(ctx, pubs))
			for _, f := range held {
				f.Close()
			}
		}
		must(t, w.h.Disconnect(ctx, c, ep))
	}
	round(true) // files that stay, such as the table of leases, are there from here on
	before, fds := state(), descriptors(t)
	begin := time.Now()
	for i := range long(1000) {
		round(i%5 == 0)
	}
	t.Logf("%d rounds in %s", long(1000), time.Since(begin).Round(time.Millisecond))
	eventually(t, "as before", func() bool { return state() == before })
	if now := descriptors(t); now > fds+2 {
		t.Errorf("descriptors: %d before, %d after", fds, now)
	}
}

func descriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(all)
}

// Installations come and go at once, each with a network of its own: whoever is
// last puts forwarding back, and while one stands it is on.
func TestForwardingWhileInstallationsComeAndGo(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for range 4 {
		h, err := NewIn(&records.Files{Root: t.TempDir()}, w.host)
		must(t, err)
		t.Cleanup(func() { h.Close() })
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range long(100) {
				_, err := h.Ensure(ctx, netdns.Network{Name: "n", ID: "n", IPv6: true})
				on := ""
				if err == nil {
					err = netns.In(w.host, func() (err error) { on, err = sysctl(ipForward); return err })
				}
				if err == nil {
					err = h.Remove(ctx, "n")
				}
				if err != nil || on != "1" {
					t.Errorf("ip_forward %q while a network stands, %v", on, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	for _, path := range []string{ipForward, ip6Forward} {
		expect(t, path, value(t, w.host, path), "0")
	}
	expect(t, "links", fmt.Sprint(links(t, w.host)), "[]")
}

// A crash between the sysctls and the bridge, and records that are lost, leave
// no forwarding behind: the bridge itself remembers.
func TestForwardingIsRememberedByTheBridge(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a", IPv6: true})
	expect(t, "on", value(t, w.host, ip6Forward), "1")
	other, err := NewIn(&records.Files{Root: t.TempDir()}, w.host) // of another root, which knows nothing
	must(t, err)
	defer other.Close()
	_, err = other.Ensure(ctx, netdns.Network{Name: "b", ID: "b"})
	must(t, err)
	must(t, w.h.Remove(ctx, "a"))
	expect(t, "while the other stands", value(t, w.host, ipForward), "1")
	must(t, other.Remove(ctx, "b"))
	for _, path := range []string{ipForward, ip6Forward} {
		expect(t, path, value(t, w.host, path), "0")
	}
	set(t, w.host, ipForward, "1") // the host's owner wants it on from now on
	w.network(netdns.Network{Name: "a"})
	if w.h.guarding() {
		t.Error("the table drops what the host's owner wants forwarded")
	}
	must(t, w.h.Remove(ctx, "a"))
	expect(t, "the owner's setting", value(t, w.host, ipForward), "1")
}

// An older bridge has not inherited the marks of a later one; it must when that
// goes first.
func TestForwardingIsRememberedByOlderBridges(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "old"})
	w.network(netdns.Network{Name: "older6", IPv6: true})
	expect(t, "on", value(t, w.host, ip6Forward), "1")
	must(t, w.h.Remove(ctx, "older6"))
	expect(t, "while the other stands", value(t, w.host, ip6Forward), "1")
	must(t, w.h.Remove(ctx, "old"))
	for _, path := range []string{ipForward, ip6Forward} {
		expect(t, path, value(t, w.host, path), "0")
	}
}

// A namespace that outlives its container loses what that one left: connections
// in TIME_WAIT, so that its port can be bound, and links of its own making.
func TestTidyNamespace(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	c, eps := w.container("web", "a")
	hello(t, c, "web", 80) // ends its connections itself, so TIME_WAIT is on its side
	expect(t, "served", ask(w.host, "tcp", at(eps[0].IPv4, 80))[:3], "web")
	must(t, netns.In(c, func() error {
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}})
	}))
	waiting := func() (n int) {
		must(t, netns.In(c, func() error {
			all, err := netlink.SocketDiagTCP(unix.AF_INET6) // Go listens on both families at once
			for _, s := range all {
				if s != nil && s.State == stateTimeWait {
					n++
				}
			}
			return err
		}))
		return n
	}
	eventually(t, "TIME_WAIT", func() bool { return waiting() > 0 })
	for range 2 {
		must(t, w.h.Tidy(ctx, c, eps))
	}
	if n := waiting(); n > 0 {
		t.Errorf("%d connections in TIME_WAIT are left", n)
	}
	must(t, netns.In(c, func() error {
		if _, err := netlink.LinkByName("wg0"); err == nil {
			t.Error("a link of the container's own is left")
		}
		_, err := netlink.LinkByName(eps[0].Interface)
		return err
	}))
	expect(t, "served still", ask(w.host, "tcp", at(eps[0].IPv4, 80))[:3], "web")
}

func TestFreePorts(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	_, eps := w.container("web", "a")
	p := netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-web", Network: "a", To: eps[0].IPv4}
	w.publish(p)
	free := func(protocol, host string, port uint16, ours ...string) string {
		var err error
		var a netip.Addr
		if host != "" {
			a = netip.MustParseAddr(host)
		}
		ids := map[string]bool{}
		for _, id := range ours {
			ids[id] = true
		}
		_ = netns.In(w.host, func() error { err = holder.Free(w.rec, protocol, a, port, ids); return nil })
		return fmt.Sprint(err)
	}
	taken := "publish port 8080: already in use by container web of project p"
	expect(t, "a container's", free("tcp", "", 8080), taken)
	expect(t, "on one address", free("tcp", "127.0.0.1", 8080), taken)
	expect(t, "its own", free("tcp", "", 8080, "c-web"), "<nil>")
	expect(t, "another protocol", free("udp", "", 8080), "<nil>")
	expect(t, "another port", free("tcp", "", 8081), "<nil>")
	var l net.Listener
	must(t, netns.In(w.host, func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:8082"); return err }))
	defer l.Close()
	if got := free("tcp", "", 8082); !strings.HasSuffix(got, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("a process's: %s", got)
	}
	expect(t, "beside it", free("tcp", "198.51.100.1", 8082), "<nil>")
}

// BenchmarkLoopbackHTTP compares HTTP through 127.0.0.1:PORT with HTTP to the
// container's own address, in turns: 90 % is wanted.
func BenchmarkLoopbackHTTP(b *testing.B) {
	w := newWorld(b)
	w.network(netdns.Network{Name: "a"})
	c, eps := w.container("web", "a")
	var l net.Listener
	must(b, netns.In(c, func() (err error) { l, err = net.Listen("tcp", ":80"); return err }))
	server := &http.Server{Handler: http.HandlerFunc(func(r http.ResponseWriter, _ *http.Request) { _, _ = r.Write([]byte("hello")) })}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() { server.Close() })
	w.publish(netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-web", Network: "a", To: eps[0].IPv4})
	for name, kept := range map[string]bool{"kept": true, "fresh": false} {
		b.Run(name, func(b *testing.B) {
			var direct, through float64
			for range b.N {
				direct += w.requests(b, at(eps[0].IPv4, 80), kept)
				through += w.requests(b, "127.0.0.1:8080", kept)
			}
			b.ReportMetric(through/float64(b.N), "requests/s")
			b.ReportMetric(100*through/direct, "%ofdirect")
		})
	}
}

// requests counts answers a second to eight clients, each with one connection,
// or with a new one for every request.
func (w *world) requests(b *testing.B, addr string, kept bool) float64 {
	const clients = 8
	dial := func(context.Context, string, string) (c net.Conn, err error) {
		err = netns.In(w.host, func() (err error) { c, err = net.Dial("tcp4", addr); return err })
		return c, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: !kept, MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	var n atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for time.Since(begin) < 250*time.Millisecond {
				r, err := client.Get("http://" + addr + "/")
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = r.Body.Read(make([]byte, 16))
				r.Body.Close()
				n.Add(1)
			}
		}()
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(begin).Seconds()
}
