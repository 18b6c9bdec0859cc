package resolver

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/kernel"
)

// echo is the floor: a bare UDP echo on the same address, through the same Go.
func echo(b *testing.B, x *box) string {
	var u *net.UDPConn
	must(b, netns.In(x.ns, func() (err error) {
		u, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 11)})
		return err
	}))
	b.Cleanup(func() { u.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := u.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return u.LocalAddr().String()
}

// rate counts questions answered in d by clients that each wait for an answer.
func rate(b *testing.B, x *box, addr string, clients int, d time.Duration) float64 {
	msg, _ := new(dns.Msg).SetQuestion("s4711.", dns.TypeA).Pack()
	var wg sync.WaitGroup
	total := make([]int, clients)
	end := time.Now().Add(d)
	for i := range clients {
		var c net.Conn
		must(b, netns.In(x.ns, func() (err error) { c, err = net.Dial("udp4", addr); return err }))
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer c.Close()
			buf := make([]byte, 512)
			for time.Now().Before(end) {
				if _, err := c.Write(msg); err != nil {
					return
				}
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := c.Read(buf); err != nil {
					return
				}
				total[i]++
			}
		}()
	}
	wg.Wait()
	sum := 0
	for _, n := range total {
		sum += n
	}
	return float64(sum) / d.Seconds()
}

// BenchmarkAgainstEcho compares the resolver, with 10,000 names, to a bare UDP
// echo, in turns so that a noisy machine hurts both: at least 85 % is wanted.
func BenchmarkAgainstEcho(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(map[int]string{1: "1-client", 16: "16-clients"}[clients], func(b *testing.B) {
			x := newBox(b, Config{Project: "p", Networks: []string{"n"}, Internal: true})
			fill(x, 10000)
			addr := echo(b, x)
			var ours, floor float64
			for range b.N {
				floor += rate(b, x, addr, clients, 250*time.Millisecond)
				ours += rate(b, x, "127.0.0.11:53", clients, 250*time.Millisecond)
			}
			b.ReportMetric(ours/float64(b.N), "answers/s")
			b.ReportMetric(floor/float64(b.N), "echoes/s")
			b.ReportMetric(100*ours/floor, "%ofecho")
		})
	}
}

// What one answer costs among so many names.
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := still()
			for i := range n {
				s.c.Directory.zones["n"].put(fmt.Sprint("s", i), netdns.Endpoint{Name: fmt.Sprint("s", i), Project: "p",
					Names: []string{fmt.Sprint("s", i)}, IPv4: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
			}
			msg, _ := new(dns.Msg).SetQuestion("web.", dns.TypeA).Pack()
			out := make([]byte, 0, mostUDP)
			var q query
			b.ReportAllocs()
			for b.Loop() {
				if m, ok := s.quick(&q, msg, out); !ok || m == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		ns := kernel.Namespace(b)
		b.StartTimer()
		s, err := Open(ns)
		must(b, err)
		s.Close()
	}
}

// fill makes names s0 to s(n-1) known.
func fill(x *box, n int) {
	z := newZone()
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		name := "s" + itoa(i)
		z.put("c"+name, endpoint("n", "p", name+"-1", a.String(), name))
	}
	x.dir.mu.Lock()
	x.dir.zones["n"] = z
	x.dir.mu.Unlock()
}

func itoa(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + string(rune('0'+i%10))
}
