package attach

import (
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/holder"
)

// TakenError says who has a host port that was to be published.
type TakenError = holder.TakenError

const stateTimeWait = 6 // linux/tcp_states.h

// clearTimeWait ends what only the memory of closed connections keeps a TCP
// port for, and says whether it did. Without SO_REUSEADDR such a port cannot be
// bound for a minute.
func clearTimeWait(protocol string, port uint16) bool {
	if !holder.Closing(protocol, port) {
		return false
	}
	n := 0
	for _, fam := range []uint8{unix.AF_INET, unix.AF_INET6} {
		all, err := netlink.SocketDiagTCP(fam)
		if err != nil {
			continue
		}
		for _, s := range all {
			if s == nil || s.State != stateTimeWait || s.ID.SourcePort != port {
				continue
			}
			local := &net.TCPAddr{IP: s.ID.Source, Port: int(port)}
			remote := &net.TCPAddr{IP: s.ID.Destination, Port: int(s.ID.DestinationPort)}
			if netlink.SocketDestroy(local, remote) == nil {
				n++
			}
		}
	}
	return n > 0
}
