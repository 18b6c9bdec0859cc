package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// States of a socket in /proc/net/tcp (linux/tcp_states.h).
const (
	tcpEstablished = 0x01
	tcpSynReceived = 0x03
	tcpListen      = 0x0a
)

// doors is how it looks at some ports of a process's network.
type doors struct {
	listens map[uint16]bool
	busy    bool // somebody has come whom the process has not taken notice of
}

// lookAt reads how it looks at TCP ports where a process lives (proc_net(5)). An
// error means that the process is no more.
func lookAt(pid int, ports map[uint16]bool) (doors, error) {
	d := doors{listens: map[uint16]bool{}}
	for _, name := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if errors.Is(err, fs.ErrNotExist) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return d, err
		}
		for line := range bytes.Lines(b) {
			d.read(line, ports)
		}
	}
	return d, nil
}

// read takes in one line of the table: its number, the local and the remote
// address, the state, what waits to be sent and to be read. Of a listener the
// latter is how many connections it has not accepted.
func (d *doors) read(line []byte, ports map[uint16]bool) {
	f := bytes.Fields(line)
	if len(f) < 5 {
		return
	}
	port, err := hexadecimal(behind(f[1], ':'))
	if err != nil || !ports[uint16(port)] {
		return
	}
	state, _ := hexadecimal(f[3])
	unread, _ := hexadecimal(behind(f[4], ':'))
	switch state {
	case tcpListen:
		d.listens[uint16(port)] = true
		d.busy = d.busy || unread > 0
	case tcpSynReceived:
		d.busy = true
	case tcpEstablished:
		d.busy = d.busy || unread > 0
	}
}

func behind(b []byte, c byte) []byte { return b[bytes.LastIndexByte(b, c)+1:] }

func hexadecimal(b []byte) (uint64, error) { return strconv.ParseUint(string(b), 16, 32) }
