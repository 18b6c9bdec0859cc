package attach

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
)

// passes makes network a, with containers a and b, and looks whether packets get
// through the chains of others: out, across the bridge, and in.
func (w *world) passes() {
	t := w.t
	t.Helper()
	w.network(netdns.Network{Name: "a"})
	w.network(netdns.Network{Name: "a"}) // twice, but the rules once
	a, as := w.container("a", "a")
	b, _ := w.container("b", "a")
	hello(t, a, "a", 80)
	hello(t, w.lan, "lan", 80)
	w.publish(netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-a", Network: "a", To: as[0].IPv4})
	expect(t, "to the outside", ask(a, "tcp", "198.51.100.2:80"), "lan 198.51.100.1")
	expect(t, "on the bridge", ask(b, "tcp", at(as[0].IPv4, 80))[:2], "a ")
	expect(t, "published", ask(w.lan, "tcp", "198.51.100.1:8080"), "a 198.51.100.2")
}

// A FORWARD chain of the kernel's old tables that drops lets our bridge pass,
// and is afterwards what it was.
func TestOldTablesLetUsPass(t *testing.T) {
	if _, err := exec.LookPath("iptables-legacy"); err != nil {
		t.Skip("there is no iptables-legacy")
	}
	w := newWorld(t)
	legacy := func(args ...string) string {
		var out []byte
		must(t, netns.In(w.host, func() (err error) {
			out, err = exec.Command("iptables-legacy", args...).CombinedOutput()
			return err
		}))
		return string(out)
	}
	legacy("-P", "FORWARD", "DROP")
	before := legacy("-S")
	w.passes()
	if n := strings.Count(legacy("-S"), "-j ACCEPT"); n != 2 {
		t.Errorf("%d rules, want 2:\n%s", n, legacy("-S"))
	}
	must(t, w.h.Remove(ctx, "a"))
	expect(t, "rules after", legacy("-S"), before)
}

// Where firewalld rules, it is told of each bridge once it stands and once it
// goes. The program is a stand-in that writes down what it is asked.
func TestFirewalldIsTold(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	must(t, os.WriteFile(filepath.Join(dir, "firewall-cmd"), []byte("#!/bin/sh\necho \"$@\" >>"+log+"\n"), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	w.network(netdns.Network{Name: "before"})
	if _, err := os.Stat(log); err == nil {
		t.Error("asked although firewalld has no table")
	}
	must(t, netns.In(w.host, func() error { return exec.Command("nft", "add table inet firewalld").Run() }))
	n := w.network(netdns.Network{Name: "a"})
	must(t, w.h.Remove(ctx, "a"))
	said, err := os.ReadFile(log)
	must(t, err)
	bridge := w.h.tag.Bridge(n.ID)
	expect(t, "told", string(said), "--zone=trusted --add-interface="+bridge+"\n--zone=trusted --remove-interface="+bridge+"\n")
}
