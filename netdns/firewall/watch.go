package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Watcher hears when somebody else takes something out of the table, or
// changes the iptables chains that packets of ours must pass.
type Watcher struct {
	f     *os.File
	table string
	comm  string
	buf   []byte
}

// Watch begins to listen.
func (t *Table) Watch() (*Watcher, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open notification socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	a := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}
	if err := unix.Bind(fd, a); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for firewall changes: %w", err)
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	return &Watcher{
		f: os.NewFile(uintptr(fd), "nftables"), table: t.t.Name,
		comm: string(bytes.TrimSpace(comm)), buf: make([]byte, 1<<16),
	}, nil
}

// Close ends the watch; a Next that waits returns.
func (w *Watcher) Close() error { return w.f.Close() }

// Next waits until a transaction of another program hurt the table, or until
// most has passed; it says which. Lost notifications count as hurt.
func (w *Watcher) Next(most time.Duration) (hurt bool, err error) {
	if err := w.f.SetReadDeadline(time.Now().Add(most)); err != nil {
		return false, fmt.Errorf("wait for firewall changes: %w", err)
	}
	for touched := false; ; {
		n, err := w.f.Read(w.buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return touched, nil
		case errors.Is(err, unix.ENOBUFS):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("wait for firewall changes: %w", err)
		}
		for b := w.buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				break
			}
			kind, body := binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:size]
			b = b[min(len(b), (size+3)&^3):]
			if kind == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
				if touched && w.foreign(body) {
					return true, nil
				}
				touched = false
				continue
			}
			touched = touched || w.touches(kind, body)
		}
	}
}

// touches says whether a message is about a deletion from our table, or about
// the filter table that iptables-nft keeps, or firewalld making its own anew.
func (w *Watcher) touches(kind uint16, body []byte) bool {
	if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || len(body) < 4 {
		return false
	}
	name := attribute(body[4:], unix.NFTA_TABLE_NAME) // every message has its table as attribute 1
	switch kind & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM:
		return string(name) == w.table || string(name) == "filter" || string(name) == "firewalld"
	case unix.NFT_MSG_NEWTABLE:
		return string(name) == "firewalld" // started, or reloaded: its zones are the configured ones
	case unix.NFT_MSG_NEWCHAIN:
		return string(name) == "filter" // its policy may be drop now
	case unix.NFT_MSG_NEWRULE:
		return string(name) == w.table // ahead of ours
	}
	return false
}

// foreign says whether the transaction that a NEWGEN message ends was made by
// another program. Every davit process that changes the table has our name.
func (w *Watcher) foreign(body []byte) bool {
	if len(body) < 4 {
		return true
	}
	if pid := attribute4(body[4:], unix.NFTA_GEN_PROC_PID); pid == uint32(os.Getpid()) {
		return false
	}
	return string(attribute(body[4:], unix.NFTA_GEN_PROC_NAME)) != w.comm
}

func attribute(b []byte, kind uint16) []byte {
	return bytes.TrimRight(raw(b, kind), "\x00")
}

func attribute4(b []byte, kind uint16) uint32 {
	v := raw(b, kind)
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// attributeType masks the two flag bits of an attribute's kind (NLA_TYPE_MASK).
const attributeType = 0x3fff

func raw(b []byte, kind uint16) []byte {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&attributeType == kind {
			return b[4:size]
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}
