package attach

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
)

// BenchmarkAttach is what a container's start waits for: namespace, lease, veth
// pair, addresses and route.
func BenchmarkAttach(b *testing.B) {
	w := newWorld(b)
	w.network(netdns.Network{Name: "a", Pools: []netdns.Pool{pool("10.200.0.0/16")}})
	b.Run("sandbox", func(b *testing.B) {
		for b.Loop() {
			ns, err := w.h.Sandbox(ctx)
			must(b, err)
			b.StopTimer()
			ns.Close()
			b.StartTimer()
		}
	})
	i := 0
	b.Run("attach", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			ns, err := w.h.Sandbox(ctx)
			must(b, err)
			i++
			ep := netdns.Endpoint{Network: "a", Container: fmt.Sprintf("b%d", i), Name: "b", Gateway: true}
			b.StartTimer()
			ep, err = w.h.Attach(ctx, ns, ep)
			must(b, err)
			b.StopTimer()
			must(b, w.h.Detach(ctx, ep))
			ns.Close()
			b.StartTimer()
		}
	})
}

// BenchmarkPublish is one port, reserved, ruled and taken away again.
func BenchmarkPublish(b *testing.B) {
	w := newWorld(b)
	w.network(netdns.Network{Name: "a"})
	_, eps := w.container("web", "a")
	for b.Loop() {
		p := netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-web", Network: "a", To: eps[0].IPv4}
		pubs, held, err := w.h.Publish(ctx, []netdns.Publication{p})
		must(b, err)
		b.StopTimer()
		must(b, w.h.Unpublish(ctx, pubs))
		for _, f := range held {
			f.Close()
		}
		b.StartTimer()
	}
}

// BenchmarkEnsure makes one network among n others.
func BenchmarkEnsure(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprintf("among-%d", n), func(b *testing.B) {
			w := newWorld(b)
			for i := range n {
				w.network(netdns.Network{Name: fmt.Sprintf("n%d", i)})
			}
			for b.Loop() {
				w.network(netdns.Network{Name: "one-more"})
				b.StopTimer()
				must(b, w.h.Remove(ctx, "one-more"))
				b.StartTimer()
			}
		})
	}
}

// BenchmarkLoopback compares a connection through 127.0.0.1:PORT with one to the
// container's own address, in turns: 90 % is wanted.
func BenchmarkLoopback(b *testing.B) {
	w := newWorld(b)
	w.network(netdns.Network{Name: "a"})
	c, eps := w.container("web", "a")
	var l net.Listener
	must(b, netns.In(c, func() (err error) { l, err = net.Listen("tcp", ":80"); return err }))
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	w.publish(netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-web", Network: "a", To: eps[0].IPv4})
	rate := func(addr string) float64 {
		var c net.Conn
		must(b, netns.In(w.host, func() (err error) { c, err = net.Dial("tcp", addr); return err }))
		defer c.Close()
		buf, n := make([]byte, 1024), 0
		begin := time.Now()
		for time.Since(begin) < 200*time.Millisecond {
			_, err := c.Write(buf)
			must(b, err)
			_, err = io.ReadFull(c, buf)
			must(b, err)
			n++
		}
		return float64(n) / time.Since(begin).Seconds()
	}
	var direct, through float64
	for range b.N {
		direct += rate(at(eps[0].IPv4, 80))
		through += rate("127.0.0.1:8080")
	}
	b.ReportMetric(through/float64(b.N), "exchanges/s")
	b.ReportMetric(100*through/direct, "%ofdirect")
}
