package attach

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/kernel"
)

// backAgain is how long rules that somebody flushed may be away. Whoever is not
// told looks after lookTime, which is longer still on a busy machine.
var backAgain = kernel.Promptly(2 * time.Second)

func TestFlushedRulesComeBack(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	w.network(netdns.Network{Name: "b"})
	a, _ := w.container("a", "a")
	b, bs := w.container("b", "b")
	hello(t, b, "b", 80)
	w.publish(netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-b", Network: "b", To: bs[0].IPv4})
	stop, cancel := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- w.h.Watch(stop) }()
	before := w.table()
	w.listens()
	var worst time.Duration
	rounds := 10
	for i := range rounds {
		command := []string{"flush ruleset", "delete table inet " + w.h.tag.Table(), "flush chain inet " + w.h.tag.Table() + " forward",
			"delete element inet " + w.h.tag.Table() + " leave { \"" + w.h.tag.Bridge("id-b") + "\" }", "flush map inet " + w.h.tag.Table() + " any4"}[i%5]
		must(t, netns.In(w.host, func() error { return exec.Command("nft", command).Run() }))
		worst = max(worst, eventually(t, "rules after "+command, func() bool { return w.table() == before }))
		expect(t, "isolation after "+command, knock(a, "tcp", at(bs[0].IPv4, 80)), "closed")
		expect(t, "port after "+command, ask(w.host, "tcp", "127.0.0.1:8080")[:2], "b ")
	}
	t.Logf("back after at most %s", worst)
	if worst > backAgain {
		t.Errorf("rules are back after %s", worst)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
}

// table lists the installation's table without the counters of handles.
func (w *world) table() string {
	var out []byte
	_ = netns.In(w.host, func() (err error) {
		out, err = exec.Command("nft", "list", "table", "inet", w.h.tag.Table()).CombinedOutput()
		return err
	})
	return string(out)
}

func TestWatchersAgree(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a", IPv6: true})
	w.network(netdns.Network{Name: "in", Internal: true})
	_, eps := w.container("a", "a")
	w.publish(netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-a", Network: "a", To: eps[0].IPv4, To6: eps[0].IPv6},
		netdns.Publication{HostPort: 8081, HostIP: netip.MustParseAddr("127.0.0.1"), ContainerPort: 80, Protocol: "udp", Container: "c-a", Network: "a", To: eps[0].IPv4})
	must(t, w.h.do(func() error {
		want, err := w.h.wanted()
		must(t, err)
		for _, made := range []string{"piece by piece", "at once"} {
			if holds, err := w.h.table.Holds(want); err != nil || !holds {
				t.Errorf("a table made %s does not hold what is wanted: %v", made, err)
			}
			must(t, w.h.table.Replace(want))
		}
		want.Ports[0].Port++
		if holds, _ := w.h.table.Holds(want); holds {
			t.Error("another port was not noticed")
		}
		return nil
	}))
}

func TestDroppingForwardChainLetsUsPass(t *testing.T) {
	w := newWorld(t)
	nft := func(cmd string) {
		t.Helper()
		must(t, netns.In(w.host, func() error {
			out, err := exec.Command("nft", cmd).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("nft %s: %s", cmd, out)
			}
			return err
		}))
	}
	nft("add table ip filter")
	nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }")
	before := ruleset(t, w.host)
	w.passes()
	if n := strings.Count(ruleset(t, w.host), "counter packets"); n != 2 {
		t.Errorf("%d rules in FORWARD, want 2:\n%s", n, ruleset(t, w.host))
	}
	must(t, w.h.Remove(ctx, "a"))
	expect(t, "ruleset after", ruleset(t, w.host), before)
}

func TestForwardingIsGuarded(t *testing.T) {
	w := newWorld(t)
	far := kernel.Namespace(t) // a second LAN behind the host
	must(t, netns.In(w.host, func() error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(far.Fd())}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		l, err := netlink.LinkByName("eth1")
		if err != nil {
			return err
		}
		a, _ := netlink.ParseAddr("203.0.113.1/24")
		return errFirst(netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
	}))
	must(t, netns.In(far, func() error {
		return errFirst(addressed0("203.0.113.2/24"), route(netip.MustParseAddr("198.51.100.1"), "203.0.113.1"))
	}))
	must(t, netns.In(w.lan, func() error { return route(netip.MustParseAddr("203.0.113.1"), "198.51.100.1") }))
	settled(t, "eth1", w.host)
	settled(t, "eth0", far)
	hello(t, far, "far", 80)
	expect(t, "before", knock(w.lan, "tcp", "203.0.113.2:80"), "closed")
	w.network(netdns.Network{Name: "a"})
	a, _ := w.container("a", "a")
	expect(t, "the host is still no router", knock(w.lan, "tcp", "203.0.113.2:80"), "closed")
	expect(t, "but for containers", ask(a, "tcp", "203.0.113.2:80"), "far 203.0.113.1")
	must(t, w.h.Remove(ctx, "a"))
	expect(t, "restored", value(t, w.host, ipForward), "0")

	set(t, w.host, ipForward, "1") // a router of its own will
	w.network(netdns.Network{Name: "a"})
	expect(t, "a router stays one", ask(w.lan, "tcp", "203.0.113.2:80"), "far 198.51.100.2")
	must(t, w.h.Remove(ctx, "a"))
	expect(t, "left as it was", value(t, w.host, ipForward), "1")
}

func errFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
