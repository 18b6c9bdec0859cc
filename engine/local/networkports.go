package local

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/netdns/holder"
)

// PortFree says whether a container could publish a port now: nil, or a
// *holder.TakenError that names who has it. Ports that the containers of ours
// (by id) have count as free. A range, or a port left to davit's choice, is free
// as long as one port of it is.
func (e *Engine) PortFree(p engine.Port, ours map[string]bool) error {
	if p.HostPort == 0 {
		return nil
	}
	var host netip.Addr
	if p.HostIP != "" {
		var err error
		if host, err = netip.ParseAddr(strings.Trim(p.HostIP, "[]")); err != nil {
			return fmt.Errorf("publish port %d: host address %q: %w", p.HostPort, p.HostIP, err)
		}
	}
	protocol := p.Protocol
	if protocol == "" {
		protocol = "tcp"
	}
	var first error
	for port := int(p.HostPort); port <= max(int(p.HostPort), int(p.HostPortEnd)); port++ {
		err := holder.Free(e.layout.Records(), protocol, host, uint16(port), ours)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}
