package journal

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/logs"
)

const (
	maxChunk = 1 << 20 // most that one splice moves, in bytes, and the largest pipe asked for

	// A pipe that is never empty for long is emptied at most this often: it
	// costs one wake-up, one splice and one record each time. Where two
	// streams are busy, the pace is what order between them is worth. A stream
	// that speaks now and then needs no pace: it is taken at once, after what
	// gathers in the other.
	paceAlone  = 16 * time.Millisecond
	paceBeside = 700 * time.Microsecond
)

// A pump moves one stream from its pipe. Its Writer's lock guards all but in.
type pump struct {
	w       *Writer
	stream  int
	in      *inlet
	clock   *clock
	size    int       // of the pipe
	took    time.Time // when it last moved something
	moved   int       // how much that was
	waiting bool      // it has something, and lets it gather
	busy    bool      // something came soon after the last time
	led     bool      // the other stream's pump took what came last
	full    full
}

// Pump takes a stream from the read end of a pipe until every writer has closed
// it or ctx has ended; both give nil. The bytes go from the pipe to the file by
// splice(2), never through this process: what a killed keeper had not moved
// yet lies in the pipe for the next. On the end of ctx it takes what is in the
// pipe, but does not wait.
//
// R should come from Pipe, or from os.NewFile on a descriptor of such a one: a
// pipe that Go's poller knows of wakes it at every write.
func (w *Writer) Pump(ctx context.Context, s logs.Stream, r *os.File) error {
	p, err := w.newPump(s, r)
	if err == nil {
		err = p.run(ctx)
		p.close()
	}
	if err != nil {
		return fmt.Errorf("take %s into log %s: %w", s, w.dir, err)
	}
	return nil
}

func (w *Writer) newPump(s logs.Stream, r *os.File) (*pump, error) {
	i, err := slot(s)
	if err != nil {
		return nil, err
	}
	in, err := newInlet(r, reopen)
	if err != nil {
		return nil, err
	}
	clock, err := newClock()
	if err != nil {
		in.close()
		return nil, err
	}
	p := &pump{w: w, stream: i, in: in, clock: clock}
	p.size, _ = unix.FcntlInt(uintptr(in.fd), unix.F_GETPIPE_SZ, 0)
	w.mu.Lock()
	w.pumps = append(w.pumps, p)
	w.mu.Unlock()
	return p, nil
}

func (p *pump) close() {
	p.w.mu.Lock()
	p.w.pumps = slices.DeleteFunc(p.w.pumps, func(o *pump) bool { return o == p })
	p.w.mu.Unlock()
	p.in.close()
	p.clock.close()
}

// run takes until the end of the pipe or of ctx.
func (p *pump) run(ctx context.Context) error {
	for {
		n, err := p.take()
		switch {
		case err == unix.EAGAIN:
			if !p.in.wait(ctx, p.w.done) {
				return p.last()
			}
			p.gather(true)
		case err == errFull:
			time.Sleep(fullRetry)
		case err != nil:
			return err
		case n == 0:
			return nil
		default:
			p.gather(false)
		}
		if ctx.Err() != nil {
			return p.last()
		}
	}
}

// gather lets output come together for a moment when a little comes often. It
// is called when the pipe has news, and after some was taken. While it waits the
// other stream's pump may take what came, and then it waits on.
func (p *pump) gather(news bool) {
	for {
		wait := p.patience(news)
		if wait <= 0 {
			return
		}
		p.clock.sleep(wait, p.w.hurried)
		news = false // what came then has been judged
	}
}

// patience is how long the pump lets output gather from now on.
func (p *pump) patience(news bool) time.Duration {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	now := time.Now()
	wait := p.pace(now) - now.Sub(p.took)
	if news {
		p.busy = wait > 0
	}
	if p.moved >= p.size/4 || !p.busy || p.w.hurrying() {
		wait = 0
	}
	p.waiting = wait > 0
	return wait
}

func (p *pump) pace(now time.Time) time.Duration {
	if p.led {
		return paceAlone // one pump that looks often is enough
	}
	for _, o := range p.w.pumps {
		if o != p && o.busy && now.Sub(o.took) < 2*paceAlone {
			return paceBeside
		}
	}
	return paceAlone
}

// take moves what the pipe has; before that, what gathers in the container's
// other pipe, since that came earlier.
func (p *pump) take() (int, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, o := range p.w.pumps {
		if o != p {
			o.catchUp()
		}
	}
	p.waiting, p.led = false, false
	return p.drain()
}

func (p *pump) catchUp() {
	if p.waiting {
		n, _ := p.drain()
		p.led = n > 0
	}
}

// last takes what is in the pipe when the pump is told to stop, at most what
// fits into it.
func (p *pump) last() error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for moved := 0; moved < maxChunk; {
		n, err := p.drain()
		if err == unix.EAGAIN || err == errFull || (n == 0 && err == nil) {
			return nil
		}
		if err != nil {
			return err
		}
		moved += n
	}
	return nil
}

// drain moves one chunk from the pipe to the stream's file and records it. The
// caller holds the Writer's lock.
func (p *pump) drain() (int, error) {
	w := p.w
	if w.ended {
		return 0, ErrClosed
	}
	if p.full.dropping {
		return p.drop()
	}
	now := w.now()
	w.makeRoom(now)
	f, err := w.stream(p.stream)
	if err != nil {
		return p.refused(err)
	}
	off := w.seg.last.ends[p.stream]
	n, err := splice(p.in.fd, int(f.Fd()), &off, w.room())
	if err != nil {
		return p.refused(err)
	}
	p.full = full{}
	if n > 0 {
		reached("spliced")
		w.mark(p.stream, int64(n), now)
		p.took, p.moved = time.Now(), n
		p.grow(n)
	}
	return n, nil
}

// splice moves up to n bytes from a pipe or terminal to a pipe or file, there at
// *off if that is given.
func splice(from, to int, off *int64, n int) (int, error) {
	for {
		m, err := unix.Splice(from, nil, to, off, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != unix.EINTR {
			return int(max(m, 0)), err
		}
	}
}

// grow makes the pipe of a container that prints fast larger, so that it is
// stopped less often. The kernel bounds what a user's pipes may have in all and
// may say no (pipe(7), pipe-user-pages-soft).
func (p *pump) grow(n int) {
	if n < p.size/4 || p.size >= maxChunk {
		return
	}
	size, err := unix.FcntlInt(uintptr(p.in.fd), unix.F_SETPIPE_SZ, p.size*4)
	if err != nil {
		size = maxChunk // do not ask again
	}
	p.size = size
}

// Discard takes a stream and keeps nothing of it, for the logging driver none.
func Discard(ctx context.Context, r *os.File) error {
	in, err := newInlet(r, reopen)
	if err != nil {
		return fmt.Errorf("discard output: %w", err)
	}
	defer in.close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("discard output: %w", err)
	}
	defer null.Close()
	for {
		n, err := splice(in.fd, int(null.Fd()), nil, maxChunk)
		switch {
		case err == unix.EAGAIN:
			if !in.wait(ctx, nil) {
				return nil
			}
		case err != nil:
			return fmt.Errorf("discard output: %w", err)
		case n == 0:
			return nil
		}
	}
}
