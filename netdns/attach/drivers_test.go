package attach

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/davit-run/davit/netdns"
)

func TestMacvlan(t *testing.T) {
	w := newWorld(t)
	n := netdns.Network{Name: "m", ID: "m", Driver: "macvlan", Options: map[string]string{"parent": "eth0"}, Pools: []netdns.Pool{pool("198.51.100.0/24")}}
	n.Pools[0].Gateway = netip.MustParseAddr("198.51.100.254")
	n.Pools[0].Range = netip.MustParsePrefix("198.51.100.64/26")
	w.network(n)
	c, eps := w.container("c", "m")
	hello(t, c, "c", 80)
	expect(t, "from the LAN", ask(w.lan, "tcp", at(eps[0].IPv4, 80)), "c 198.51.100.2")
	must(t, w.h.Remove(ctx, "m"))
}

// What a kernel may lack is said so, with a way out; what is not there is named.
func TestLackingKernelsAndLinksAreNamed(t *testing.T) {
	w := newWorld(t)
	w.network(netdns.Network{Name: "a"})
	_, eps := w.container("web", "a")
	_, held, err := w.h.Publish(ctx, []netdns.Publication{{HostPort: 8080, ContainerPort: 80, Protocol: "sctp", Container: "c-web", Network: "a", To: eps[0].IPv4}})
	for _, f := range held {
		f.Close()
	}
	if err != nil && !strings.Contains(err.Error(), "this kernel has no sctp (CONFIG_IP_SCTP)") {
		t.Errorf("sctp: %v", err)
	}
	for _, c := range []struct{ driver, parent, want string }{
		{"ipvlan", "eth0", "this kernel has no ipvlan; use driver macvlan or bridge"},
		{"ipvlan", "", "name it under driver_opts as parent"},
		{"macvlan", "", "name it under driver_opts as parent"},
		{"macvlan", "eth9", "driver_opts parent: find link eth9"},
	} {
		n := netdns.Network{Name: "v", ID: "v", Driver: c.driver, Options: map[string]string{"parent": c.parent}, Pools: []netdns.Pool{pool("198.51.100.0/24")}}
		w.network(n)
		ns, err := w.h.Sandbox(ctx)
		must(t, err)
		_, err = w.h.Attach(ctx, ns, netdns.Endpoint{Network: "v", Container: "c-v", Name: "v"})
		ns.Close()
		kernelHasIt := err == nil && c.driver == "ipvlan" && c.parent != ""
		if !kernelHasIt && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s on %q: %v, want %q", c.driver, c.parent, err, c.want)
		}
		must(t, w.h.Remove(ctx, "v"))
	}
}
