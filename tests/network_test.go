package tests

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

// A member is a service as the test knows it: where it is, and what it is
// called there.
type member struct {
	project, name string
	networks      []string
	alias         string
}

// Fifty services on five networks with aliases, two of the networks shared with
// another project: from each service every name leads where it should, and
// nowhere where it should not.
func TestNamesOfFiftyServicesOnFiveNetworks(t *testing.T) {
	ours, theirs := fifty("names", 50), fifty("guests", 10)
	h := newHost(t, "names", composeOf(ours, false))
	guests := filepath.Join(h.dir, "guests.yaml")
	check(t, os.WriteFile(guests, []byte(composeOf(theirs, true)), 0o644))
	h.davit("up", "-d")
	h.davit("-p", "guests", "-f", guests, "up", "-d")
	all := slices.Concat(ours, theirs)
	at := h.addresses()
	var names []string
	for _, m := range all {
		names = append(names, m.name, m.alias, m.name+"."+m.project, m.project+"-"+m.name+"-1")
	}
	slices.Sort(names)
	names = slices.Compact(append(names, "nobody"))
	wrong, askers := 0, kernel.Tenth(50)
	for i := range askers {
		asker := ours[i*50/askers]
		got := h.resolved(asker.name, names)
		for _, name := range names {
			if want := strings.Join(meant(asker, name, all, at), " "); got[name] != want {
				wrong++
				t.Errorf("%s on %v asks for %s: got %q, want %q", asker.name, asker.networks, name, got[name], want)
			}
		}
	}
	t.Logf("%d names asked for from %d services: %d wrong answers", len(names), askers, wrong)
	h.davit("-p", "guests", "-f", guests, "down")
	h.davit("down")
}

// fifty are n services of a project, each on one or two of five networks.
func fifty(project string, n int) []member {
	var out []member
	for i := range n {
		m := member{project: project, name: fmt.Sprintf("s%d", i), alias: fmt.Sprintf("a%d", i/2)}
		m.networks = []string{fmt.Sprintf("n%d", i%5)}
		if i%3 == 0 {
			m.networks = append(m.networks, fmt.Sprintf("n%d", (i+1)%5))
		}
		out = append(out, m)
	}
	return out
}

// composeOf writes the services down. A guest's n3 and n4 are the host's.
func composeOf(all []member, guest bool) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for _, m := range all {
		fmt.Fprintf(&b, "  %s:\n    image: busybox\n    command: sleep 600\n    stop_signal: SIGKILL\n    networks:\n", m.name)
		for _, n := range m.networks {
			fmt.Fprintf(&b, "      %s: {aliases: [%s]}\n", n, m.alias)
		}
	}
	b.WriteString("networks:\n")
	for i := range 5 {
		if guest && i > 2 {
			fmt.Fprintf(&b, "  n%d: {external: true, name: names_n%d}\n", i, i)
		} else {
			fmt.Fprintf(&b, "  n%d:\n", i)
		}
	}
	return b.String()
}

// host is the network's name on the host.
func (m member) host(network string) string {
	if m.project == "guests" && network < "n3" {
		return "guests_" + network
	}
	return "names_" + network
}

// addresses tells every container's address, by network and name.
func (h *host) addresses() map[string]map[string]string {
	var views []struct {
		Name       string
		Containers map[string]struct{ Name, IPv4Address string }
	}
	names := strings.Fields(h.davit("network", "ls", "-q"))
	check(h.t, json.Unmarshal([]byte(h.davit(append([]string{"network", "inspect"}, names...)...)), &views))
	at := map[string]map[string]string{}
	for _, v := range views {
		at[v.Name] = map[string]string{}
		for _, c := range v.Containers {
			p, err := netip.ParsePrefix(c.IPv4Address)
			check(h.t, err)
			at[v.Name][c.Name] = p.Addr().String()
		}
	}
	return at
}

// meant are the addresses that a name has for a service, sorted: those of its
// own project where there are any.
func meant(asker member, name string, all []member, at map[string]map[string]string) []string {
	var own, others []string
	for _, m := range all {
		called := name == m.name || name == m.alias || name == m.name+"."+m.project || name == m.project+"-"+m.name+"-1"
		for _, n := range m.networks {
			on := m.host(n)
			shares := slices.ContainsFunc(asker.networks, func(a string) bool { return asker.host(a) == on })
			if !called || !shares {
				continue
			}
			if m.project == asker.project {
				own = append(own, at[on][m.project+"-"+m.name+"-1"])
			} else {
				others = append(others, at[on][m.project+"-"+m.name+"-1"])
			}
		}
	}
	if len(own) == 0 {
		own = others
	}
	slices.Sort(own)
	return own
}

// resolved asks for every name inside a service's container.
func (h *host) resolved(service string, names []string) map[string]string {
	script := `for n in "$@"; do
		echo "$n" $(nslookup -timeout=60 -retry=60 -type=a "$n" 2>/dev/null | sed -n '/^Name/,$ s/^Address.*: *\([0-9]\)/\1/p' | sort)
	done`
	out := h.davit(append([]string{"exec", "-T", service, "sh", "-c", script, "sh"}, names...)...)
	got := map[string]string{}
	for line := range strings.Lines(out) {
		name, addresses, _ := strings.Cut(strings.TrimSpace(line), " ")
		f := strings.Fields(addresses)
		slices.Sort(f)
		got[name] = strings.Join(f, " ")
	}
	return got
}
