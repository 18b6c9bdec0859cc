package holder

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// TakenError says who has a host port that was to be published.
type TakenError struct {
	Port     uint16
	Protocol string
	Process  string // its name, empty when it could not be found
	PID      int
	By       string // a container of davit's that publishes the port, or what else is known
}

// Error names the port, with its protocol when that is not tcp, and the holder.
func (e *TakenError) Error() string {
	s := fmt.Sprintf("publish port %d", e.Port)
	if e.Protocol != "tcp" {
		s += "/" + e.Protocol
	}
	s += ": already in use"
	switch {
	case e.By != "":
		return s + " by " + e.By
	case e.Process != "":
		return fmt.Sprintf("%s by %s (pid %d)", s, e.Process, e.PID)
	}
	return s
}

// Taken makes the error for a port that cannot be bound: a container of this
// installation has it, or a process of the host.
func Taken(rec netdns.Records, protocol string, port uint16) *TakenError {
	e := &TakenError{Port: port, Protocol: protocol}
	for _, p := range Published(rec, protocol, port) {
		e.By = Describe(rec, p)
		return e
	}
	for _, s := range sockets(protocol, port) {
		if e.PID, e.Process = owner(s.inode); e.PID != 0 {
			break
		}
	}
	if e.PID == 0 && protocol == "tcp" && !listening(protocol, port) {
		e.By = "connections that are still closing, or a socket that does not listen"
	}
	return e
}

// Published returns the recorded publications of a port by containers of this
// installation.
func Published(rec netdns.Records, protocol string, port uint16) []netdns.Publication {
	networks, err := rec.List("networks")
	if err != nil {
		return nil
	}
	var out []netdns.Publication
	for _, n := range networks {
		containers, err := rec.List("networks/" + n + "/ports")
		if err != nil {
			continue
		}
		for _, c := range containers {
			var pubs []netdns.Publication
			if rec.Read("networks/"+n+"/ports/"+c, &pubs) != nil {
				continue
			}
			for _, p := range pubs {
				if p.HostPort == port && p.Protocol == protocol {
					out = append(out, p)
				}
			}
		}
	}
	return out
}

// Describe names the container that has a publication.
func Describe(rec netdns.Records, p netdns.Publication) string {
	var ep netdns.Endpoint
	if rec.Read("networks/"+p.Network+"/endpoints/"+p.Container, &ep) == nil && ep.Name != "" {
		return "container " + ep.Name + " of project " + ep.Project
	}
	return fmt.Sprintf("container %.12s", p.Container)
}

// Free says whether a port could be published now: nil, or a *TakenError. What
// the containers of ours publish, by id, counts as free: they will have given it
// back by then. So does what only closed connections still hold.
func Free(rec netdns.Records, protocol string, host netip.Addr, port uint16, ours map[string]bool) error {
	for _, a := range Addresses(host) {
		f, err := Bind(protocol, a, port)
		if err == nil {
			f.Close()
			continue
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			continue // the keeper, which publishes it, says what is wrong
		}
		published := Published(rec, protocol, port)
		for _, p := range published {
			if !ours[p.Container] && meet(p.HostIP, host) {
				return &TakenError{Port: port, Protocol: protocol, By: Describe(rec, p)}
			}
		}
		if len(published) > 0 || Closing(protocol, port) {
			continue
		}
		return Taken(rec, protocol, port)
	}
	return nil
}

// meet says whether two host addresses of a port exclude each other.
func meet(a, b netip.Addr) bool {
	wide := func(x netip.Addr) bool { return !x.IsValid() || x.IsUnspecified() }
	return a == b || wide(a) || wide(b)
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

// Closing says whether nothing but the memory of closed connections holds a TCP
// port. Without SO_REUSEADDR such a port cannot be bound for a minute.
func Closing(protocol string, port uint16) bool {
	if protocol != "tcp" {
		return false
	}
	all := sockets(protocol, port)
	for _, s := range all {
		if s.state != stateTimeWait {
			return false
		}
	}
	return len(all) > 0
}

// owner finds a process that has the socket open.
func owner(inode string) (int, string) {
	if inode == "0" {
		return 0, ""
	}
	want := "socket:[" + inode + "]"
	procs, err := os.ReadDir("/proc")
	if errors.Is(err, fs.ErrPermission) {
		return 0, ""
	}
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
