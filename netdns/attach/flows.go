package attach

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/holder"
)

// forgetFlows deletes what conntrack remembers of the publications. When a port
// is published only UDP matters: a client that kept sending has a flow that was
// decided without the rule. When it is unpublished, whatever was led to the
// container goes.
func forgetFlows(pubs []netdns.Publication, published bool) error {
	var todo []netdns.Publication
	for _, p := range pubs {
		if !published || p.Protocol == "udp" {
			todo = append(todo, p)
		}
	}
	if len(todo) == 0 || noFlows() {
		return nil
	}
	for _, fam := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		f := &stale{pubs: todo, published: published}
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, fam, f); err != nil {
			return fmt.Errorf("forget connections of unpublished ports: %w", err)
		}
	}
	return nil
}

// noFlows spares a dump where nothing is tracked.
func noFlows() bool {
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	return err == nil && strings.TrimSpace(string(b)) == "0"
}

// stale picks the flows that a change of publications makes wrong.
type stale struct {
	pubs      []netdns.Publication
	published bool
}

// MatchConntrackFlow says whether the flow is to go.
func (s *stale) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	from, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
	from = from.Unmap()
	for _, p := range s.pubs {
		if f.Forward.DstPort != p.HostPort || int(f.Forward.Protocol) != holder.Number(p.Protocol) {
			continue
		}
		led := (from == p.To || from == p.To6) && f.Reverse.SrcPort == p.ContainerPort
		if s.published != led {
			return true
		}
	}
	return false
}
