package attach

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// taken makes the error for a port that cannot be bound: one of our own
// containers has it, or a process of the host.
func (h *Host) taken(p netdns.Publication, port uint16) error {
	e := &TakenError{Port: port, Protocol: p.Protocol}
	if e.By = h.publisher(p, port); e.By != "" {
		return e
	}
	for _, s := range sockets(p.Protocol, port) {
		if e.PID, e.Process = owner(s.inode); e.PID != 0 {
			break
		}
	}
	if e.PID == 0 && p.Protocol == "tcp" && !listening(p.Protocol, port) {
		e.By = "connections that are still closing, or a socket that does not listen"
	}
	return e
}

// publisher names the container that publishes the port.
func (h *Host) publisher(p netdns.Publication, port uint16) string {
	all, err := h.standing()
	if err != nil {
		return ""
	}
	for _, r := range all {
		pubs, err := h.published(r.Name)
		if err != nil {
			continue
		}
		for _, o := range pubs {
			if o.HostPort != port || o.Protocol != p.Protocol {
				continue
			}
			var ep netdns.Endpoint
			if h.rec.Read(keyEndpoint(o.Network, o.Container), &ep) == nil && ep.Name != "" {
				return "container " + ep.Name + " of project " + ep.Project
			}
			return fmt.Sprintf("container %.12s", o.Container)
		}
	}
	return ""
}

// A socket is one line of /proc/net/tcp and its like.
type socket struct {
	state int
	inode string
}

const (
	stateTimeWait = 6  // linux/tcp_states.h
	stateListen   = 10 // likewise
)

// sockets lists those that have the local port, listeners first.
func sockets(protocol string, port uint16) []socket {
	var out []socket
	want := fmt.Sprintf(":%04X", port)
	for _, suffix := range []string{"", "6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + protocol + suffix)
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
			f := strings.Fields(sc.Text())
			if len(f) < 10 || !strings.HasSuffix(f[1], want) {
				continue
			}
			state, _ := strconv.ParseInt(f[3], 16, 32)
			s := socket{state: int(state), inode: f[9]}
			if s.state == stateListen {
				out = append([]socket{s}, out...)
			} else {
				out = append(out, s)
			}
		}
	}
	return out
}

func listening(protocol string, port uint16) bool {
	s := sockets(protocol, port)
	return len(s) > 0 && s[0].state == stateListen
}

// owner finds a process that has the socket open.
func owner(inode string) (int, string) {
	if inode == "0" {
		return 0, ""
	}
	want := "socket:[" + inode + "]"
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := "/proc/" + p.Name() + "/fd"
		fds, _ := os.ReadDir(dir)
		for _, fd := range fds {
			if to, err := os.Readlink(dir + "/" + fd.Name()); err == nil && to == want {
				name, _ := os.ReadFile("/proc/" + p.Name() + "/comm")
				return pid, strings.TrimSpace(string(name))
			}
		}
	}
	return 0, ""
}

// clearTimeWait ends what only the memory of closed connections keeps a TCP
// port for, and says whether it did. Without SO_REUSEADDR such a port cannot be
// bound for a minute.
func clearTimeWait(protocol string, port uint16) bool {
	if protocol != "tcp" {
		return false
	}
	for _, s := range sockets(protocol, port) {
		if s.state != stateTimeWait {
			return false
		}
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
