package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/netns"
)

// Doors are the TCP ports that are listened on in one namespace, asked for over
// sock_diag(7). /proc/net/tcp would tell as well, but takes milliseconds: it is
// a walk through the connections of the whole host.
type Doors struct {
	fd  int
	buf []byte
}

// OpenDoors begins to look at a namespace. The namespace lives as long as Doors
// is open.
func OpenDoors(ns *os.File) (*Doors, error) {
	d := &Doors{buf: make([]byte, 32<<10)}
	err := netns.In(ns, func() (err error) {
		d.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open socket for sockets: %w", err)
	}
	return d, nil
}

// Close ends the look.
func (d *Doors) Close() error { return unix.Close(d.fd) }

// Look returns the ports that are listened on, each with how many connections
// have been made there that nobody has accepted yet.
func (d *Doors) Look() (map[uint16]int, error) {
	found := map[uint16]int{}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		err := d.ask(family, found)
		if errors.Is(err, unix.ENOENT) && family == unix.AF_INET6 {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
	}
	return found, nil
}

// The messages of linux/inet_diag.h and what is where in them.
const (
	diagRequest  = 56      // sizeof struct inet_diag_req_v2
	diagAnswer   = 72      // sizeof struct inet_diag_msg
	answerPort   = 4       // idiag_sport, big endian
	answerQueue  = 56      // idiag_rqueue: of a listener, who waits to be accepted
	statesListen = 1 << 10 // TCPF_LISTEN
)

func (d *Doors) ask(family byte, found map[uint16]int) error {
	m := make([]byte, unix.NLMSG_HDRLEN+diagRequest)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := m[unix.NLMSG_HDRLEN:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], statesListen)
	if err := unix.Sendto(d.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		over, err := answers(d.buf[:n], found)
		if over || err != nil {
			return err
		}
	}
}

// answers takes in one packet of the kernel's; over says that it was the last.
func answers(b []byte, found map[uint16]int) (over bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		switch {
		case m.Header.Type == unix.NLMSG_DONE:
			return true, nil
		case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
			return true, unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
		case len(m.Data) >= diagAnswer:
			port := binary.BigEndian.Uint16(m.Data[answerPort:])
			found[port] += int(binary.NativeEndian.Uint32(m.Data[answerQueue:]))
		}
	}
	return false, nil
}
