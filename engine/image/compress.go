package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a zstd stream may ask for, in bytes.
const maxWindow = 128 << 20

// Decompress returns what r holds, decompressed when it begins as gzip, zstd,
// bzip2 or xz do; all in this process, never by a program (CVE-2019-14271). The
// decompressor runs ahead of its reader in a goroutine, which Close ends.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return readAhead(z, func() { z.Close() }), nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), skippable(head):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return readAhead(z, z.Close), nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return readAhead(bzip2.NewReader(b), func() {}), nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		// No image has xz layers, but ADD unpacks them, and most of Debian's
		// and the kernel's archives are such.
		z, err := xz.NewReader(newXZGuard(b))
		if err != nil {
			return nil, fmt.Errorf("xz: %w", err)
		}
		return readAhead(z, func() {}), nil
	}
	return io.NopCloser(b), nil
}

// skippable tells whether a zstd skippable frame begins here (RFC 8878 3.1.2).
func skippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

const (
	chunkSize  = 256 << 10
	chunkAhead = 6
)

type chunk struct {
	b   []byte
	err error
}

// An ahead reads its source in a goroutine, a few chunks before they are
// wanted, so that decompression and unpacking each have a processor.
type ahead struct {
	chunks chan chunk
	free   chan []byte
	stop   chan struct{}
	done   chan struct{}
	cur    chunk
	rest   []byte
	closed bool
}

func readAhead(r io.Reader, closeSource func()) io.ReadCloser {
	a := &ahead{
		chunks: make(chan chunk, chunkAhead), free: make(chan []byte, chunkAhead+2),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go a.pump(r, closeSource)
	return a
}

func (a *ahead) pump(r io.Reader, closeSource func()) {
	defer close(a.done)
	defer closeSource()
	for {
		var b []byte
		select {
		case b = <-a.free:
		default:
			b = make([]byte, chunkSize)
		}
		n, err := fill(r, b)
		select {
		case a.chunks <- chunk{b[:n], err}:
		case <-a.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// fill reads until b is full or the source errs; unlike io.ReadFull it passes
// the source's own error on, so that a cut stream is told from an ended one.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.b != nil {
			a.free <- a.cur.b[:chunkSize]
		}
		a.cur = <-a.chunks
		a.rest = a.cur.b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the goroutine and waits for it.
func (a *ahead) Close() error {
	if !a.closed {
		a.closed = true
		close(a.stop)
		<-a.done
	}
	return nil
}
