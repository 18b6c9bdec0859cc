package sandbox

import (
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/netns"
)

const stateTimeWait = 6 // linux/tcp_states.h

// Tidy makes a namespace that outlives its container fit for the next one:
// connections that wait in TIME_WAIT are ended, for servers fail on them, and
// links other than lo and the named ones are removed, with their routes. It is
// idempotent.
func Tidy(ns *os.File, keep []string) error {
	return netns.In(ns, func() error {
		endConnections(stateTimeWait)
		links, err := Whole(netlink.LinkList)
		if err != nil {
			return fmt.Errorf("list links of a kept namespace: %w", err)
		}
		for _, l := range links {
			a := l.Attrs()
			if a.Flags&net.FlagLoopback != 0 || slices.Contains(keep, a.Name) {
				continue
			}
			// Some links are every namespace's own (tunl0, sit0): they stay.
			_ = netlink.LinkDel(l)
		}
		return nil
	})
}

// End ends every connection of a namespace whose processes are gone. One that
// still waits for its peer's last word keeps the namespace alive for a minute
// or more (tcp_fin_timeout, tcp_orphan_retries in ip-sysctl.rst), and with it
// the links that should go when the namespace does. It is idempotent.
func End(ns *os.File) error {
	return netns.In(ns, func() error {
		endConnections(0)
		return nil
	})
}

// endConnections ends those in a state, or all of them for state 0. It does
// what it can: a kernel without INET_DIAG_DESTROY can nothing.
func endConnections(state uint8) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		all, err := netlink.SocketDiagTCP(family)
		if err != nil {
			continue
		}
		for _, s := range all {
			if s != nil && (state == 0 || s.State == state) {
				_ = netlink.SocketDestroy(&net.TCPAddr{IP: s.ID.Source, Port: int(s.ID.SourcePort)},
					&net.TCPAddr{IP: s.ID.Destination, Port: int(s.ID.DestinationPort)})
			}
		}
	}
}
