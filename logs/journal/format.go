package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/logs"
)

// The format of a container's log directory.
//
// Output lies in generations, numbered from 1. A generation N is an index and
// at most one file per stream, such as
//
//	index-00000007  stdout-00000007  stderr-00000007  notice-00000007
//
// A stream's file holds the very bytes that the container wrote, nothing
// between them; a line may begin in one generation and end in the next. A file
// only ever grows at its end. A generation exists when its index does: the
// index is made under a temporary name and renamed, the streams' files are made
// when their first byte comes, and the index is the first that is removed.
//
// An index is a header of 64 bytes and records of 48 bytes, little endian. Each
// record says how far every stream had come at a moment, so that a lost record
// costs an order and a time, never a byte. Bytes beyond the last record take
// its time.
//
//	header  0  8  "davitlog"
//	        8  2  version, 1
//	       10  2  size of a record, 48
//	       12  4  bit s: stream s goes on with a line that an older generation began
//	       16  8  number of the generation
//	       24  8  when it was made, nanoseconds since 1970
//	       32  8  bytes in all generations before it, removed ones included
//	       40 20  zero
//	       60  4  CRC-32 (IEEE) of the 60 bytes before
//	record  0  1  kind, 1: output arrived
//	        1  1  its stream: 0 stdout, 1 stderr, 2 console, 3 notice
//	        2  2  zero
//	        4  4  CRC-32 (IEEE) of bytes 0 to 3 and 8 to 47
//	        8  8  when, nanoseconds since 1970; never falls within a generation
//	       16 32  the ends of the four streams' files after it
const (
	magic      = "davitlog"
	version    = 1
	headerSize = 64
	recordSize = 48
	kindData   = 1
	numStreams = 4
	noticeSlot = 3
)

// streamNames are the streams by their number in the index.
var streamNames = [numStreams]logs.Stream{logs.Stdout, logs.Stderr, logs.Console, logs.Notice}

var errFormat = errors.New("not an index of a log")

func slot(s logs.Stream) (int, error) {
	for i, name := range streamNames {
		if name == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no stream is called %q", string(s))
}

// A header opens an index.
type header struct {
	gen       uint64
	continues uint32 // bit s: stream s begins inside a line
	created   int64
	base      uint64 // bytes of all older generations
}

func (h header) goesOn(s int) bool { return h.continues&(1<<s) != 0 }

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	binary.LittleEndian.PutUint16(b[8:], version)
	binary.LittleEndian.PutUint16(b[10:], recordSize)
	binary.LittleEndian.PutUint32(b[12:], h.continues)
	binary.LittleEndian.PutUint64(b[16:], h.gen)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.created))
	binary.LittleEndian.PutUint64(b[32:], h.base)
	binary.LittleEndian.PutUint32(b[60:], crc32.ChecksumIEEE(b[:60]))
	return b
}

func decodeHeader(b []byte) (header, error) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return header{}, errFormat
	}
	if crc32.ChecksumIEEE(b[:60]) != binary.LittleEndian.Uint32(b[60:]) {
		return header{}, errFormat
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != version {
		return header{}, fmt.Errorf("index of version %d, this davit reads %d", v, version)
	}
	if binary.LittleEndian.Uint16(b[10:]) != recordSize {
		return header{}, errFormat
	}
	return header{
		continues: binary.LittleEndian.Uint32(b[12:]),
		gen:       binary.LittleEndian.Uint64(b[16:]),
		created:   int64(binary.LittleEndian.Uint64(b[24:])),
		base:      binary.LittleEndian.Uint64(b[32:]),
	}, nil
}

// ends is how far each stream's file reaches.
type ends [numStreams]int64

func (e ends) total() int64 { return e[0] + e[1] + e[2] + e[3] }

// A record says that output of a stream arrived.
type record struct {
	stream int
	time   int64
	ends   ends
}

func (r record) encode(b []byte) {
	clear(b[:8])
	b[0], b[1] = kindData, byte(r.stream)
	binary.LittleEndian.PutUint64(b[8:], uint64(r.time))
	for i, e := range r.ends {
		binary.LittleEndian.PutUint64(b[16+8*i:], uint64(e))
	}
	binary.LittleEndian.PutUint32(b[4:], recordSum(b))
}

func recordSum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b[:4]), crc32.IEEETable, b[8:recordSize])
}

func decodeRecord(b []byte) (record, bool) {
	if b[0] != kindData || b[1] >= numStreams || recordSum(b) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, false
	}
	r := record{stream: int(b[1]), time: int64(binary.LittleEndian.Uint64(b[8:]))}
	for i := range r.ends {
		r.ends[i] = int64(binary.LittleEndian.Uint64(b[16+8*i:]))
		if r.ends[i] < 0 {
			return record{}, false
		}
	}
	return r, true
}

const indexPrefix = "index-"

func indexName(gen uint64) string { return fmt.Sprintf("%s%08d", indexPrefix, gen) }

func streamName(s int, gen uint64) string { return fmt.Sprintf("%s-%08d", streamNames[s], gen) }

// parseName splits a file's name into what it is and its generation.
func parseName(name string) (what string, gen uint64, ok bool) {
	what, digits, ok := strings.Cut(name, "-")
	if !ok || len(digits) < 8 {
		return "", 0, false
	}
	gen, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || gen == 0 || fmt.Sprintf("%08d", gen) != digits {
		return "", 0, false
	}
	if what == "index" {
		return what, gen, true
	}
	_, err = slot(logs.Stream(what))
	return what, gen, err == nil
}

func timeOf(ns int64) time.Time { return time.Unix(0, ns) }
