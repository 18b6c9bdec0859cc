package attach

import (
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
)

// connect begins a connection from ns, and brings what the server will say, or
// why it said nothing.
func connect(ns *os.File, addr string) <-chan string {
	said := make(chan string, 1)
	go func() {
		var c net.Conn
		err := netns.In(ns, func() (err error) {
			c, err = net.DialTimeout("tcp", addr, patience)
			return err
		})
		if err != nil {
			said <- err.Error()
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(c)
		if err != nil {
			said <- err.Error()
			return
		}
		said <- string(b)
	}()
	return said
}

// queued waits until so many connections wait at a port, or none any more.
func (w *world) queued(want int, p netdns.Publication) {
	w.t.Helper()
	eventually(w.t, "clients wait", func() bool {
		n := 0
		for _, x := range w.h.waiting(p) {
			x.mu.Lock()
			n += len(x.conns)
			x.mu.Unlock()
		}
		return n == want
	})
}

// vacate gives published ports up.
func (w *world) vacate(pubs []netdns.Publication, files []*os.File) {
	w.t.Helper()
	must(w.t, w.h.Unpublish(ctx, pubs))
	for _, f := range files {
		f.Close()
	}
}

// Whoever connects while a container is replaced waits, wherever they come from,
// and is served by the next one; whoever comes later meets it directly.
func TestClientsOfSuspendedPortsWait(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	w.network(netdns.Network{Name: "inside", Internal: true})
	old, was := w.container("old", "a")
	hello(t, old, "old", 80)
	barred, ins := w.container("barred", "inside")
	p := netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-old", Network: "a", To: was[0].IPv4}
	pubs, files, err := w.h.Publish(ctx, []netdns.Publication{p})
	must(t, err)
	expect(t, "before", <-connect(w.host, "127.0.0.1:8080"), "old "+gateway(was[0]))
	for range 2 { // twice on the same sockets, and it is idempotent
		must(t, w.h.Suspend(ctx, pubs, files))
		must(t, w.h.Suspend(ctx, pubs, files))
		var asked []<-chan string
		for _, addr := range []string{"127.0.0.1:8080", "[::1]:8080"} {
			asked = append(asked, connect(w.host, addr))
		}
		for _, addr := range []string{"198.51.100.1:8080", "[2001:db8::1]:8080"} {
			asked = append(asked, connect(w.lan, addr))
		}
		w.queued(len(asked), p)
		if got := <-connect(barred, gateway(ins[0])+":8080"); got == "" || got[:3] != "rea" && got[:3] != "dia" {
			t.Errorf("an internal network's container: got %q, want a reset", got)
		}
		next, is := w.container("next", "a")
		hello(t, next, "next", 80)
		q := p
		q.Container, q.To = "c-next", is[0].IPv4
		pubs, files, err = w.h.Publish(ctx, []netdns.Publication{q}, files...)
		must(t, err)
		w.queued(len(asked), q)
		must(t, w.h.Lead(ctx, pubs))
		for _, said := range asked {
			expect(t, "one who waited", <-said, "next "+gateway(is[0]))
		}
		expect(t, "one from the LAN who comes later", <-connect(w.lan, "198.51.100.1:8080"), "next 198.51.100.2")
		must(t, next.Close())
		must(t, w.h.Detach(ctx, is[0]))
	}
	v4 := files[slices.IndexFunc(files, func(f *os.File) bool { return bound(f).Addr().Is4() })]
	eventually(t, "the socket is a mere reservation again", func() bool { return !listens(v4) })
	if err := w.h.do(func() error { _, err := bindAll(p, 8080); return err }); err == nil {
		t.Error("the port is free while it is published")
	}
	w.vacate(pubs, files)
}

// A replacement that comes to nothing, or does not publish the port any more,
// sends those away who wait.
func TestClientsOfPortsThatGoAreSentAway(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	_, eps := w.container("old", "a")
	p := netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-old", Network: "a", To: eps[0].IPv4}
	q, local := p, p
	q.HostPort = 8081
	local.HostIP = netip.MustParseAddr("127.0.0.1")
	for name, end := range map[string]func(pubs []netdns.Publication, files []*os.File) ([]netdns.Publication, []*os.File, error){
		"unpublished": func(pubs []netdns.Publication, files []*os.File) ([]netdns.Publication, []*os.File, error) {
			return nil, files, w.h.Unpublish(ctx, pubs)
		},
		"another port": func(_ []netdns.Publication, files []*os.File) ([]netdns.Publication, []*os.File, error) {
			return w.h.Publish(ctx, []netdns.Publication{q}, files...)
		},
		"another address": func(_ []netdns.Publication, files []*os.File) ([]netdns.Publication, []*os.File, error) {
			return w.h.Publish(ctx, []netdns.Publication{local}, files...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			pubs, files, err := w.h.Publish(ctx, []netdns.Publication{p})
			must(t, err)
			must(t, w.h.Suspend(ctx, pubs, files))
			said := connect(w.host, "127.0.0.1:8080")
			w.queued(1, p)
			pubs, files, err = end(pubs, files)
			must(t, err)
			if got := <-said; got == "" {
				t.Error("one who waited was told nothing went wrong")
			}
			w.vacate(pubs, files)
			expect(t, "afterwards", ask(w.host, "tcp", "127.0.0.1:8080"), "closed")
			must(t, w.h.do(func() error { // for anybody
				l, err := net.Listen("tcp", ":8080")
				if err == nil {
					err = l.Close()
				}
				return err
			}))
		})
	}
}

// What a keeper that was killed had listen is served by the next one.
func TestResumedPortsServeThoseWhoWaited(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	ns, eps := w.container("web", "a")
	hello(t, ns, "web", 80)
	p := netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-web", Network: "a", To: eps[0].IPv4}
	pubs, files, err := w.h.Publish(ctx, []netdns.Publication{p})
	must(t, err)
	v4 := files[slices.IndexFunc(files, func(f *os.File) bool { return bound(f).Addr().Is4() })]
	must(t, w.h.withdraw(pubs))
	must(t, unix.Listen(int(v4.Fd()), 10))
	said := connect(w.host, "127.0.0.1:8080")
	eventually(t, "one waits", func() bool { return readable(int(v4.Fd())) })
	must(t, w.h.Resume(ctx, pubs, files))
	expect(t, "one who waited", <-said, "web "+gateway(eps[0]))
	w.vacate(pubs, files)
}

// Nobody is sent away who came before a listener's time was over, and was not
// accepted until then.
func TestWhoCameInTimeIsAccepted(t *testing.T) {
	w := newWorld(t)
	var l net.Listener
	var c net.Conn
	must(t, netns.In(w.host, func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:8080"); return err }))
	must(t, netns.In(w.host, func() (err error) { c, err = net.Dial("tcp", "127.0.0.1:8080"); return err }))
	defer c.Close()
	f, err := l.(*net.TCPListener).File()
	must(t, err)
	defer f.Close()
	eventually(t, "one waits", func() bool { return readable(int(f.Fd())) })
	x := &proxy{end: l}
	if x.unlisten(l.(*net.TCPListener)) {
		t.Fatal("one who waits to be accepted was sent away")
	}
	in, err := l.Accept()
	must(t, err)
	defer in.Close()
	if !x.unlisten(l.(*net.TCPListener)) || listens(f) {
		t.Error("the socket listens though nobody waits")
	}
}

// Who listens in a namespace is seen, and who has come and was not accepted.
func TestDoors(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	ns, eps := w.container("web", "a")
	d, err := w.h.Doors(ns)
	must(t, err)
	defer d.Close()
	look := func() map[uint16]int {
		at, err := d.Look()
		must(t, err)
		return at
	}
	if got := look(); len(got) > 0 {
		t.Errorf("nobody listens: got %v", got)
	}
	var l net.Listener
	must(t, netns.In(ns, func() (err error) { l, err = net.Listen("tcp", ":80"); return err }))
	if waiting, listens := look()[80]; !listens || waiting != 0 {
		t.Errorf("port 80: got %d, %t", waiting, listens)
	}
	var c net.Conn
	must(t, netns.In(w.host, func() (err error) { c, err = net.Dial("tcp", at(eps[0].IPv4, 80)); return err }))
	defer c.Close()
	eventually(t, "one is seen to wait", func() bool { return look()[80] == 1 })
	in, err := l.Accept()
	must(t, err)
	defer in.Close()
	eventually(t, "nobody waits", func() bool { return look()[80] == 0 })
	must(t, l.Close())
	eventually(t, "the door is closed", func() bool { return len(look()) == 0 })
}
