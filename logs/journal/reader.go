package journal

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/logs"
)

// ReadOptions say which part of a log is read.
type ReadOptions struct {
	Since, Until time.Time // zero: from the beginning, to the end; a line's time is that of its end
	Tail         int       // the last so many lines, unfinished ones counted, notices not; negative: all
	Follow       bool      // wait for more at the end
	Past         bool      // of OpenHistory: begin with the logs of the containers before this one
}

// A Reader reads a container's log while it is being written. It is for one
// goroutine, Finish and Notify apart.
type Reader struct {
	dir  string
	root *os.File
	o    ReadOptions
	gens []*generation // opened ones, oldest first; the first is being read

	newest    uint64 // the highest number opened so far
	next      int64  // number of the next record
	pos       ends   // handled so far of the current generation
	rec       record // being handed out, while turn < numStreams
	turn      int
	wins      [numStreams]window
	skip      int         // lines to leave out before the first
	skipTails int64       // unfinished lines to leave out
	said      []logs.Line // davit's own, to be handed out first
	until     int64       // 0: no end
	short     int         // lines that Tail asks for beyond what there was
	lost      int64       // bytes of the current generation that rotation removed too soon
	over      bool
	looks     uint // calls of Next

	follower
}

// Open begins to read the log in dir. Where Follow is set the log may still be
// empty, but dir must be there.
func Open(dir string, o ReadOptions) (*Reader, error) {
	r, err := open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("read log %s: %w", dir, err)
	}
	return r, nil
}

func open(dir string, o ReadOptions) (*Reader, error) {
	root, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r := &Reader{dir: dir, root: root, o: o, turn: numStreams}
	r.wake = make(chan struct{}, 1)
	if !o.Until.IsZero() {
		r.until = o.Until.UnixNano()
	}
	if o.Follow {
		r.watch = watchDir(root, r)
	}
	if err := r.openAll(); err != nil {
		r.Close()
		return nil, err
	}
	if len(r.gens) > 0 {
		r.seek()
	} else {
		r.short = max(0, o.Tail)
	}
	return r, nil
}

// openAll opens every generation younger than those that are open.
func (r *Reader) openAll() error {
	list, _, err := generations(r.root)
	if err != nil {
		return err
	}
	slices.Sort(list)
	for _, gen := range list {
		if gen <= r.newest {
			continue
		}
		g, err := openGeneration(r.root, gen)
		if os.IsNotExist(err) {
			continue // removed since it was listed
		}
		if err != nil {
			return err
		}
		r.gens = append(r.gens, g)
		r.newest = gen
	}
	return nil
}

// Close gives up the Reader.
func (r *Reader) Close() error {
	r.stop()
	for _, g := range r.gens {
		g.close()
	}
	r.gens, r.over = nil, true
	return r.root.Close()
}

// Next returns the next line, and io.EOF after the last. A follower waits for
// more until ctx ends, Finish is called or the log is removed. A line with
// Partial set goes on with the next line of the same stream.
func (r *Reader) Next(ctx context.Context) (logs.Line, error) { return next(ctx, r, r) }

// A linePoller gives lines without waiting.
type linePoller interface {
	Poll() (logs.Line, bool, error)
}

func next(ctx context.Context, from linePoller, r *Reader) (logs.Line, error) {
	for {
		if r.looks++; r.looks%256 == 0 && ctx.Err() != nil {
			return logs.Line{}, ctx.Err()
		}
		line, ok, err := from.Poll()
		if ok || err != nil {
			return line, err
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return logs.Line{}, ctx.Err()
		}
	}
}

// Poll is Next for those who do not want to wait: ok is false when there is no
// line now. Notify tells when it is worth another try.
func (r *Reader) Poll() (line logs.Line, ok bool, err error) {
	if r.resting && !r.dirty.Swap(false) {
		return logs.Line{}, false, nil
	}
	r.resting = false
	for {
		if line, ok := r.take(); ok {
			return line, true, nil
		}
		if r.over {
			return logs.Line{}, false, io.EOF
		}
		found, err := r.advance()
		if err != nil {
			return logs.Line{}, false, fmt.Errorf("read log %s: %w", r.dir, err)
		}
		if !found && !r.over {
			r.rest()
			return logs.Line{}, false, nil
		}
	}
}

// take returns the next line of what is at hand.
func (r *Reader) take() (logs.Line, bool) {
	if len(r.said) > 0 {
		line := r.said[0]
		r.said = r.said[1:]
		return line, true
	}
	for r.turn < numStreams {
		s := r.streamAt(r.turn)
		text, whole, ok := r.wins[s].line(r.rec.ends[s])
		if !ok {
			r.turn++
			if r.turn == numStreams {
				r.pos = r.rec.ends
			}
			continue
		}
		if r.skip > 0 {
			if whole && s != noticeSlot {
				r.skip--
			}
			continue
		}
		return r.lineOf(s, text, !whole), true
	}
	return logs.Line{}, false
}

// streamAt orders the streams of one record: that which it is about comes last,
// since what it tells of others arrived before.
func (r *Reader) streamAt(i int) int {
	if i == numStreams-1 {
		return r.rec.stream
	}
	if i >= r.rec.stream {
		return i + 1
	}
	return i
}

// seqStep leaves numbers for unfinished lines between those of lines that end at
// neighbouring bytes.
const seqStep = 2 * numStreams

// lineOf numbers a line by the bytes that all streams had when it ended, so that
// every reader gives it the same number.
func (r *Reader) lineOf(s int, text []byte, partial bool) logs.Line {
	seq := (int64(r.gens[0].head.base) + r.pos.total() + r.wins[s].at() - r.pos[s]) * seqStep
	return logs.Line{
		Stream:  streamNames[s],
		Time:    timeOf(r.rec.time),
		Seq:     uint64(max(0, seq)),
		Text:    text,
		Partial: partial,
	}
}

// begin makes a record the one that is handed out.
func (r *Reader) begin(rec record) {
	g := r.gens[0]
	for s := range rec.ends {
		rec.ends[s] = max(rec.ends[s], r.pos[s])
		if rec.ends[s] > r.pos[s] && r.wins[s].file == nil {
			_ = g.openStreams()
			r.wins[s].file = g.files[s]
			if g.files[s] == nil {
				r.lost += rec.ends[s] - r.pos[s]
			}
		}
	}
	r.rec, r.turn = rec, 0
	r.fresh = time.Now()
	if r.o.Follow {
		r.pin(r.fresh)
	}
}

// advance finds the next record; false where there is none for now.
func (r *Reader) advance() (found bool, err error) {
	if len(r.gens) == 0 {
		return r.first()
	}
	if rec, ok := r.nextRecord(len(r.gens) > 1); ok {
		r.offer(rec)
		return true, nil
	}
	if len(r.gens) > 1 {
		return true, r.leave()
	}
	if more, err := r.younger(); more || err != nil {
		return more, err
	}
	return r.atEnd(), nil
}

// first waits for the first generation of a log that had none.
func (r *Reader) first() (bool, error) {
	if err := r.openAll(); err != nil {
		return false, err
	}
	if len(r.gens) > 0 {
		r.seek()
		return true, nil
	}
	r.over = !r.following() || removedDir(r.root)
	return false, nil
}

func removedDir(root *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(root.Fd()), &st) == nil && st.Nlink == 0
}

// offer begins a record, or ends the reading when it is past Until.
func (r *Reader) offer(rec record) {
	if r.until != 0 && rec.time > r.until {
		r.over = true
		return
	}
	r.begin(rec)
}

// nextRecord reads the next sound record of the current generation. A damaged
// one is passed over where more follow: they say all it said.
func (r *Reader) nextRecord(closed bool) (record, bool) {
	g := r.gens[0]
	for {
		rec, ok := g.record(r.next)
		if ok {
			r.next++
			return rec, true
		}
		n := g.count()
		if r.next >= n || (!closed && r.next == n-1) {
			return record{}, false
		}
		r.next++
	}
}

// leftover makes a record of bytes that the index does not know of.
func (r *Reader) leftover() (record, bool) {
	g := r.gens[0]
	_ = g.openStreams()
	for s, size := range g.sizes() {
		if size > r.pos[s] {
			rec := record{stream: s, time: max(r.rec.time, g.head.created), ends: r.pos}
			rec.ends[s] = size
			return rec, true
		}
	}
	return record{}, false
}

// leave goes on to the next generation once all of this one was handed out.
func (r *Reader) leave() error {
	if rec, ok := r.leftover(); ok {
		r.offer(rec)
		return nil
	}
	old, next := r.gens[0], r.gens[1]
	gap := next.gen > old.gen+1 || r.lost > 0
	if err := next.openStreams(); err != nil {
		return err
	}
	for s := range r.wins {
		if gap || !next.head.goesOn(s) {
			r.endPiece(s)
		}
	}
	if gap {
		r.tellLost(next.head.created, r.lost+int64(next.head.base)-int64(old.head.base)-r.pos.total())
	}
	for s := range r.wins {
		r.wins[s].turn(next.files[s])
		r.wins[s].torn = r.wins[s].torn || gap && next.head.goesOn(s)
	}
	r.gens = r.gens[1:]
	r.next, r.pos, r.lost = 0, ends{}, 0
	old.close()
	return nil
}
