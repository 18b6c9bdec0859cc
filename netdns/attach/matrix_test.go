package attach

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Who reaches a published port: six ways to bind it, four who try, two families
// of addresses, for a container with IPv4 alone and for one with both.
func TestExposureMatrix(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "v4"})
	w.network(netdns.Network{Name: "dual", IPv6: true})
	w.network(netdns.Network{Name: "other", IPv6: true})
	other, _ := w.container("other", "other")
	var out strings.Builder
	want := cells(t, "testdata/exposure.txt")
	port := uint16(8000)
	for _, network := range []string{"v4", "dual"} {
		c, eps := w.container("web-"+network, network)
		hello(t, c, "web", 80)
		fmt.Fprintf(&out, "container on %s\n%-16s %-11s %-13s %-13s %-14s %s\n", network, "bound to", "protocol", "loopback", "own address", "LAN neighbour", "other project")
		for _, bind := range []string{"", "0.0.0.0", "127.0.0.1", "198.51.100.1", "::", "::1"} {
			for _, proto := range []string{"tcp", "udp"} {
				port++
				p := netdns.Publication{HostPort: port, ContainerPort: 80, Protocol: proto, Container: "c-web-" + network, Network: network, To: eps[0].IPv4, To6: eps[0].IPv6}
				if bind != "" {
					p.HostIP = netip.MustParseAddr(bind)
				}
				w.publish(p)
				fmt.Fprintf(&out, "%-16s %-11s", "["+bind+"]", proto)
				row := want[network+" ["+bind+"] "+proto]
				for i, from := range []struct {
					ns     *os.File
					v4, v6 string
				}{{w.host, "127.0.0.1", "::1"}, {w.host, "198.51.100.1", "2001:db8::1"}, {w.lan, "198.51.100.1", "2001:db8::1"}, {other, "198.51.100.1", "2001:db8::1"}} {
					wants := append(row, "", "", "", "")[i]
					four := reaches(from.ns, proto, from.v4, port, strings.HasPrefix(wants, "open/"))
					six := reaches(from.ns, proto, from.v6, port, strings.HasSuffix(wants, "/open"))
					fmt.Fprintf(&out, " %-13s", four+"/"+six)
				}
				out.WriteString("\n")
			}
		}
	}
	golden(t, "testdata/exposure.txt", trimmed(out.String()))
}

// reaches asks for a while where an answer should come: a busy machine may be
// late with it.
func reaches(ns *os.File, proto, addr string, port uint16, should bool) string {
	try := knock
	if should {
		try = ask
	}
	if strings.HasPrefix(try(ns, proto, at(netip.MustParseAddr(addr), port)), "web ") {
		return "open"
	}
	return "-"
}

// cells are those of a table of exposure, by network, address and protocol.
func cells(t *testing.T, path string) map[string][]string {
	text, err := os.ReadFile(path)
	if *update {
		return nil
	}
	must(t, err)
	all, network := map[string][]string{}, ""
	for l := range strings.Lines(string(text)) {
		f := strings.Fields(l)
		switch {
		case len(f) == 3 && f[0] == "container":
			network = f[2]
		case len(f) == 6 && strings.HasPrefix(f[0], "["):
			all[network+" "+f[0]+" "+f[1]] = f[2:]
		}
	}
	return all
}

func trimmed(s string) string {
	var out []string
	for l := range strings.Lines(s) {
		out = append(out, strings.TrimRight(l, " \n"))
	}
	return strings.Join(out, "\n") + "\n"
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs:\n%s", path, got)
	}
}

// A neighbour with a route to the containers scans the host and a container:
// only what is published to it is open. DAVIT_LONG=1 tries every port.
func TestPortScanFromTheLAN(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	c, eps := w.container("web", "a")
	must(t, netns.In(w.lan, func() error { return route(eps[0].IPv4, "198.51.100.1") }))
	open := []uint16{80, 443, 5432, 6553, 40000}
	for _, p := range open {
		hello(t, c, "web", p)
	}
	for i, ip := range []string{"", "127.0.0.1", "198.51.100.1"} {
		p := netdns.Publication{HostPort: uint16(3000 + i), ContainerPort: 80, Protocol: "tcp", Container: "c-web", Network: "a", To: eps[0].IPv4}
		if ip != "" {
			p.HostIP = netip.MustParseAddr(ip)
		}
		w.publish(p)
	}
	last := 6553
	if os.Getenv("DAVIT_LONG") != "" {
		last = 65535
	}
	scan(t, "host", w.lan, netip.MustParseAddr("198.51.100.1"), last, 3000, 3002)
	scan(t, "container", w.lan, eps[0].IPv4, last)
	scan(t, "gateway", w.lan, netip.MustParseAddr(gateway(eps[0])), 4000)
	scan(t, "container, from the host itself", w.host, eps[0].IPv4, 6553, 80, 443, 5432, 6553)
}

// scan looks for open TCP ports of addr from 1 to last, 500 at a time, and wants
// these alone.
func scan(t *testing.T, what string, ns *os.File, addr netip.Addr, last int, open ...int) {
	t.Helper()
	var found []int
	for first := 1; first <= last; first += 500 {
		must(t, netns.In(ns, func() error {
			var fds []unix.PollFd
			var ports []int
			for p := first; p < min(first+500, last+1); p++ {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				_ = unix.Connect(fd, &unix.SockaddrInet4{Port: p, Addr: addr.As4()})
				fds, ports = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}), append(ports, p)
			}
			if err := settle(fds, func(i int) bool { return slices.Contains(open, ports[i]) }); err != nil {
				return err
			}
			for i, f := range fds {
				if e, _ := unix.GetsockoptInt(int(f.Fd), unix.SOL_SOCKET, unix.SO_ERROR); f.Revents&unix.POLLOUT != 0 && e == 0 && f.Revents&unix.POLLHUP == 0 {
					found = append(found, ports[i])
				}
			}
			return nil
		}))
	}
	expect(t, what, fmt.Sprint(found), fmt.Sprint(open))
}

// settle waits for 100 ms until connections are made or refused: what drops never
// answers. For those that must be answered it waits as long as it takes.
func settle(fds []unix.PollFd, must func(i int) bool) error {
	begin := time.Now()
	for {
		n, err := unix.Poll(fds, 0)
		if err != nil && err != unix.EINTR {
			return err
		}
		late := false
		for i, f := range fds {
			late = late || f.Revents == 0 && must(i)
		}
		if past := time.Since(begin); n == len(fds) || past > patience || past > 100*time.Millisecond && !late {
			return nil
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
}
