package image

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

var errXZ = errors.New("xz: damaged")

// xzChecks are the sizes of a block's check by its type (xz-file-format 2.1.1.2).
var xzChecks = [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

// An xzGuard passes an xz file on as it is, but refuses blocks that ask for a
// dictionary of more than maxWindow bytes: the decoder would allocate up to
// 4 GiB on the word of one byte. It follows the structure of the file, of
// which every block may name a dictionary of its own, and decodes nothing.
type xzGuard struct {
	r       *bufio.Reader
	pass    int64        // bytes that go through before the next thing to look at
	next    func() error // looks at it
	check   int64        // bytes of the stream's checks
	size    int64        // bytes of the present block or index
	left    uint64       // numbers of the index still to come
	between bool         // streams: the one place where a file may end
}

func newXZGuard(r *bufio.Reader) *xzGuard {
	g := &xzGuard{r: r, between: true}
	g.next = g.stream
	return g
}

// Read implements io.Reader.
func (g *xzGuard) Read(p []byte) (int, error) {
	for g.pass == 0 {
		between := g.between
		if err := g.next(); err == io.EOF && !between {
			return 0, io.ErrUnexpectedEOF
		} else if err != nil {
			return 0, err
		}
	}
	n, err := g.r.Read(p[:min(int64(len(p)), g.pass)])
	if g.pass -= int64(n); g.pass > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// stream looks at the header of a stream, or padding between two.
func (g *xzGuard) stream() error {
	b, err := g.r.Peek(12)
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == 0 {
		g.pass = 4
		return nil
	}
	if err != nil {
		if len(b) > 0 && err == io.EOF {
			g.pass, err = int64(len(b)), nil // the decoder tells what is wrong
		}
		return err
	}
	g.between = false
	g.check, g.pass, g.next = xzChecks[b[7]&15], 12, g.block
	return nil
}

// block looks at the header of a block, or finds the index behind the last.
func (g *xzGuard) block() error {
	b, err := g.r.Peek(1)
	if err != nil {
		return err
	}
	if b[0] == 0 {
		g.pass, g.size, g.next = 1, 1, g.indexHead
		return nil
	}
	n := (int(b[0]) + 1) * 4
	if b, err = g.r.Peek(n); err != nil {
		return err
	}
	if err := dictionaryFits(b); err != nil {
		return err
	}
	g.pass, g.size, g.next = int64(n), 0, g.chunk
	return nil
}

// dictionaryFits reads the filters of a block's header (xz-file-format 3.1).
func dictionaryFits(b []byte) error {
	flags, at := b[1], 2
	number := func() uint64 {
		v, n := binary.Uvarint(b[at:])
		if n <= 0 {
			at = len(b)
			return 0
		}
		at += n
		return v
	}
	for _, bit := range []byte{0x40, 0x80} { // the sizes, when they are told
		if flags&bit != 0 {
			number()
		}
	}
	for range flags&3 + 1 {
		id, size := number(), number()
		if size > uint64(len(b)-at) {
			return errXZ
		}
		if id == 0x21 && size > 0 { // LZMA2
			if n, err := lzma.DecodeDictCap(b[at]); err != nil || n > maxWindow {
				return fmt.Errorf("xz: a dictionary of %d bytes; at most %d are allowed", n, maxWindow)
			}
		}
		at += int(size)
	}
	return nil
}

// chunk looks at the head of an LZMA2 chunk, which tells its length.
func (g *xzGuard) chunk() error {
	b, err := g.r.Peek(1)
	if err != nil {
		return err
	}
	head := 3 // control, size of what is not compressed
	switch c := b[0]; {
	case c == 0:
		g.size++
		g.pass, g.next = 1, g.blockTail
		return nil
	case c >= 0xc0:
		head = 6 // control, two sizes, properties
	case c >= 0x80:
		head = 5
	case c > 2:
		return errXZ
	}
	if b, err = g.r.Peek(head); err != nil {
		return err
	}
	size := binary.BigEndian.Uint16(b[1:])
	if head > 3 {
		size = binary.BigEndian.Uint16(b[3:])
	}
	g.pass = int64(head) + int64(size) + 1
	g.size += g.pass
	return nil
}

func (g *xzGuard) blockTail() error {
	g.pass, g.next = -g.size&3+g.check, g.block
	return nil
}

// indexHead reads how many records the index has, of two numbers each.
func (g *xzGuard) indexHead() error {
	n, err := g.number()
	g.left, g.next = 2*n, g.index
	return err
}

func (g *xzGuard) index() error {
	if g.left == 0 {
		g.between = true
		g.pass, g.next = -g.size&3+4+12, g.stream // padding, check, the stream's footer
		return nil
	}
	g.left--
	_, err := g.number()
	return err
}

func (g *xzGuard) number() (uint64, error) {
	b, err := g.r.Peek(binary.MaxVarintLen64)
	v, n := binary.Uvarint(b)
	if n <= 0 {
		if err == nil || err == io.EOF {
			err = errXZ
		}
		return 0, err
	}
	g.pass = int64(n)
	g.size += g.pass
	return v, nil
}
