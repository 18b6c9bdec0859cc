package journal

import (
	"bytes"
	"os"
)

// MaxLine is the longest text of one logs.Line in bytes; what is longer comes
// in Partial pieces.
const MaxLine = 1 << 20

const readSize = 128 << 10

// A window is the part of a stream that a reader has in memory.
type window struct {
	file  *os.File // of the current generation; nil: the stream has none
	off   int64    // where in file the bytes after buf are
	buf   []byte
	start int  // the unfinished line begins here
	scan  int  // no line ends before
	torn  bool // the line's beginning was dropped: leave out its rest
	piece bool // a Partial piece of the line was handed out
}

// turn goes on with the next generation's file, keeping the unfinished line.
func (w *window) turn(f *os.File) { w.file, w.off = f, 0 }

// line returns the next line that ends before the file offset end. With
// whole unset text is a piece of a line longer than MaxLine.
func (w *window) line(end int64) (text []byte, whole, ok bool) {
	for {
		limit := len(w.buf) - int(max(0, w.off-end))
		if limit > w.scan {
			if i := bytes.IndexByte(w.buf[w.scan:limit], '\n'); i >= 0 {
				if nl := w.scan + i; nl-w.start <= MaxLine {
					text = w.buf[w.start:nl]
					w.start, w.scan = nl+1, nl+1
					if w.torn {
						w.torn = false
						continue
					}
					w.piece = false
					return text, true, true
				}
			} else {
				w.scan = limit
			}
		}
		if w.torn && limit > w.start {
			w.start = max(w.scan, w.start)
		}
		if limit-w.start > MaxLine {
			return w.cut(MaxLine), false, true
		}
		if w.off >= end || !w.fill() {
			return nil, false, false
		}
	}
}

// cut takes the first n bytes of the unfinished line.
func (w *window) cut(n int) []byte {
	text := w.buf[w.start : w.start+n]
	w.start += n
	w.scan = max(w.scan, w.start)
	w.piece = true
	return text
}

// rest is the unfinished line up to the file offset end.
func (w *window) rest(end int64) []byte {
	limit := len(w.buf) - int(max(0, w.off-end))
	if w.torn || limit <= w.start {
		return nil
	}
	return w.buf[w.start:limit]
}

// at is the file offset that the window has handed out up to.
func (w *window) at() int64 { return w.off - int64(len(w.buf)-w.start) }

func (w *window) fill() bool {
	if w.file == nil {
		return false
	}
	if w.start > 0 {
		n := copy(w.buf, w.buf[w.start:])
		w.buf = w.buf[:n]
		w.scan -= w.start
		w.start = 0
	}
	have := len(w.buf)
	if cap(w.buf)-have < readSize/2 {
		grown := make([]byte, have, have*2+readSize)
		copy(grown, w.buf)
		w.buf = grown
	}
	n, _ := w.file.ReadAt(w.buf[have:min(cap(w.buf), have+2*readSize)], w.off)
	w.buf = w.buf[:have+n]
	w.off += int64(n)
	return n > 0
}
