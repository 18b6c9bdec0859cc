package resolver

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// Sizes of RFC 1035 and 6891, in octets.
const (
	headerSize = 12
	plainUDP   = 512   // a datagram to a client without EDNS
	mostUDP    = 4096  // what we admit to take with EDNS
	mostTCP    = 65535 // the length prefix has 16 bits
	longName   = 255
)

// Bits of the second 16 bits of a header.
const (
	flagResponse  = 1 << 15
	flagAuthority = 1 << 10
	flagTruncated = 1 << 9
	flagRecursion = 1 << 8
	flagAvailable = 1 << 7
	opcodeMask    = 0xf << 11
)

const (
	typeOPT    dnsmessage.Type  = 41
	rcodeVers  dnsmessage.RCode = 16 // BADVERS, whose upper bits are in the OPT record
	aliveTTL                    = 5  // seconds: a container may be elsewhere after a restart
	pointer                     = 0xc000 | headerSize
	recordSize                  = 12 // pointer, type, class, ttl, length
)

// query is a question as it came. The slices lie in the message.
type query struct {
	msg      []byte
	question []byte // name, type and class, untouched: 0x20 letters come back as they were
	name     []byte // lower case, with dots, without the last one; lies in nameBuf
	kind     dnsmessage.Type
	class    dnsmessage.Class
	edns     bool
	version  byte
	size     int // the largest answer that the client takes
	nameBuf  [longName]byte
}

var errMalformed = errors.New("malformed message")

// parse reads a query. q.question is set as soon as there is one to send back.
func (q *query) parse(msg []byte) error {
	*q = query{msg: msg, size: plainUDP}
	if len(msg) < headerSize || q.flags()&flagResponse != 0 {
		return errMalformed
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 {
		return errMalformed
	}
	end, ok := q.readName(msg)
	if !ok || end+4 > len(msg) {
		return errMalformed
	}
	q.kind = dnsmessage.Type(binary.BigEndian.Uint16(msg[end:]))
	q.class = dnsmessage.Class(binary.BigEndian.Uint16(msg[end+2:]))
	q.question = msg[headerSize : end+4]
	return q.readOptions(end + 4)
}

func (q *query) flags() uint16 { return binary.BigEndian.Uint16(q.msg[2:]) }

// readName reads the question's name, which cannot be compressed: there is
// nothing before it to point at.
func (q *query) readName(msg []byte) (end int, ok bool) {
	n := 0
	for i := headerSize; i < len(msg); {
		size := int(msg[i])
		i++
		if size == 0 {
			q.name = q.nameBuf[:max(0, n-1)]
			return i, true
		}
		if size > 63 || i+size > len(msg) || n+size+1 >= longName {
			return 0, false
		}
		for _, c := range msg[i : i+size] {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			q.nameBuf[n] = c
			n++
		}
		q.nameBuf[n] = '.'
		n++
		i += size
	}
	return 0, false
}

// readOptions looks for an OPT record (RFC 6891) behind the question.
func (q *query) readOptions(at int) error {
	m := q.msg
	records := int(binary.BigEndian.Uint16(m[6:])) + int(binary.BigEndian.Uint16(m[8:])) + int(binary.BigEndian.Uint16(m[10:]))
	for range records {
		if at = skipName(m, at); at < 0 || at+10 > len(m) {
			return errMalformed
		}
		if dnsmessage.Type(binary.BigEndian.Uint16(m[at:])) == typeOPT {
			if q.edns {
				return errMalformed // at most one
			}
			q.edns, q.version = true, m[at+5]
			q.size = min(mostUDP, max(plainUDP, int(binary.BigEndian.Uint16(m[at+2:]))))
		}
		if at += 10 + int(binary.BigEndian.Uint16(m[at+8:])); at > len(m) {
			return errMalformed
		}
	}
	return nil
}

func skipName(m []byte, at int) int {
	for at < len(m) {
		switch c := m[at]; {
		case c == 0:
			return at + 1
		case c >= 0xc0:
			return at + 2
		case c > 63:
			return -1
		default:
			at += 1 + int(c)
		}
	}
	return -1
}

// answer is an answer being written into a caller's buffer.
type answer struct {
	q     *query
	buf   []byte
	limit int
	count uint16
	full  bool
}

// reply begins an answer in buf.
func (q *query) reply(buf []byte, limit int) answer {
	buf = append(buf[:0], make([]byte, headerSize)...)
	buf = append(buf, q.question...)
	if q.edns {
		limit -= 11 // the OPT record at the end
	}
	return answer{q: q, buf: buf, limit: limit}
}

// add appends a record about the question's name, unless it does not fit.
func (a *answer) add(kind dnsmessage.Type, data []byte) {
	if a.full || len(a.buf)+recordSize+len(data) > a.limit {
		a.full = true
		return
	}
	b := binary.BigEndian.AppendUint16(a.buf, pointer)
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(dnsmessage.ClassINET))
	b = binary.BigEndian.AppendUint32(b, aliveTTL)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	a.buf = append(b, data...)
	a.count++
}

func (a *answer) addr(addr netip.Addr) {
	if addr.Is4() {
		b := addr.As4()
		a.add(dnsmessage.TypeA, b[:])
		return
	}
	b := addr.As16()
	a.add(dnsmessage.TypeAAAA, b[:])
}

// finish writes the header and returns the message.
func (a *answer) finish(code dnsmessage.RCode, authoritative bool) []byte {
	q := a.q
	flags := flagResponse | flagAvailable | q.flags()&(opcodeMask|flagRecursion) | uint16(code&0xf)
	if authoritative {
		flags |= flagAuthority
	}
	if a.full {
		flags |= flagTruncated
	}
	copy(a.buf, q.msg[:2])
	binary.BigEndian.PutUint16(a.buf[2:], flags)
	binary.BigEndian.PutUint16(a.buf[6:], a.count)
	if len(q.question) > 0 {
		binary.BigEndian.PutUint16(a.buf[4:], 1)
	}
	if q.edns {
		binary.BigEndian.PutUint16(a.buf[10:], 1)
		a.buf = append(a.buf, 0, 0, byte(typeOPT), mostUDP>>8, mostUDP&0xff, byte(code>>4), 0, 0, 0, 0, 0)
	}
	return a.buf
}

// refuse answers a query with a code and nothing else.
func (q *query) refuse(buf []byte, code dnsmessage.RCode) []byte {
	a := q.reply(buf, mostTCP)
	return a.finish(code, false)
}
