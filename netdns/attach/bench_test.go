package attach

import (
	"fmt"
	"testing"

	"github.com/davit-run/davit/netdns"
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
