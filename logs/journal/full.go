package journal

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	fullPatience = 400 * time.Millisecond // a full disk is waited for this long before output is dropped
	fullRetry    = 50 * time.Millisecond
	fullProbe    = 200 * time.Millisecond // while dropping, the disk is tried again this often
	probeSize    = 256 << 10              // bytes that must be free before output is kept again
)

// errFull says that the disk refuses now, and that it is too early to drop.
var errFull = errors.New("the disk is full")

// full is what a pump knows of a disk that refuses its output.
type full struct {
	since    time.Time // first refusal; zero: none
	dropping bool
	tried    time.Time // last probe
	bytes    int64     // dropped
	lines    int64     // dropped
	inside   bool      // what was dropped last did not end a line
}

// refused decides what becomes of output that could not be written. A container
// is never held up for more than a second: after a short wait its output is
// dropped, counted, until the disk takes it again.
func (p *pump) refused(err error) (int, error) {
	if !diskRefuses(err) {
		return 0, err
	}
	now := time.Now()
	if p.full.since.IsZero() {
		p.full.since = now
	}
	if now.Sub(p.full.since) < fullPatience {
		return 0, errFull
	}
	p.full.dropping, p.full.tried = true, now
	return p.drop()
}

func diskRefuses(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.EIO, unix.EROFS, unix.ENFILE, unix.EMFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// drop reads output away, unless the disk has room again.
func (p *pump) drop() (int, error) {
	if now := time.Now(); now.Sub(p.full.tried) >= fullProbe {
		p.full.tried = now
		if p.roomAgain() {
			return p.resume()
		}
	}
	buf := make([]byte, 64<<10)
	n, err := readPipe(p.in.fd, buf)
	if n > 0 {
		p.count(buf[:n])
		return n, nil
	}
	if err == nil && p.full.bytes > 0 && p.roomAgain() {
		p.tell()
	}
	return 0, err
}

// readPipe reads what a pipe has. It asks first, since whoever else has the
// pipe may have made it blocking.
func readPipe(fd int, b []byte) (int, error) {
	ask := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(ask, 0); n <= 0 {
		return 0, unix.EAGAIN
	}
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func (p *pump) count(b []byte) {
	p.full.bytes += int64(len(b))
	p.full.lines += int64(bytes.Count(b, []byte{'\n'}))
	p.full.inside = b[len(b)-1] != '\n'
	p.took = time.Now()
}

// roomAgain reserves a little of the disk behind the stream, and so learns
// whether it can be written to.
func (p *pump) roomAgain() bool {
	w := p.w
	w.makeRoom(w.now())
	f, err := w.stream(p.stream)
	if err != nil {
		return false
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, w.seg.last.ends[p.stream], probeSize)
	return err == nil || err == unix.EOPNOTSUPP
}

// resume begins to keep output again, at the start of a line.
func (p *pump) resume() (int, error) {
	var b [1]byte
	for p.full.inside {
		n, err := readPipe(p.in.fd, b[:])
		if n == 0 {
			return 0, err
		}
		p.count(b[:])
	}
	if !p.tell() {
		return 0, errFull
	}
	return p.drain()
}

// tell ends the line that the full disk cut, and says what is missing.
func (p *pump) tell() bool {
	w := p.w
	if !p.endLine() {
		return false
	}
	text := fmt.Sprintf("the disk was full: %d lines (%d bytes) of %s were dropped", p.full.lines, p.full.bytes, streamNames[p.stream])
	if w.notice(text) != nil {
		return false
	}
	p.full = full{}
	return true
}

func (p *pump) endLine() bool {
	w := p.w
	if w.seg.unfinished()&(1<<p.stream) == 0 {
		return true
	}
	now := w.now() // may begin another generation
	f, err := w.stream(p.stream)
	return err == nil && w.append(f, p.stream, []byte{'\n'}, now) == nil
}
