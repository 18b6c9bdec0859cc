package journal

import (
	"fmt"
	"slices"

	"github.com/davit-run/davit/logs"
)

func (r *Reader) tellLost(at, n int64) {
	r.say(at, fmt.Sprintf("%d bytes were dropped by rotation before they could be read", max(0, n)))
}

// endPiece hands out what is left of a line whose end will never come; nothing,
// as a line, where its beginning is out already: what comes next is another line.
func (r *Reader) endPiece(s int) {
	w := &r.wins[s]
	if text := w.rest(w.off); (len(text) > 0 || w.piece) && r.skip == 0 {
		r.said = append(r.said, r.lineOf(s, slices.Clone(text), false))
	}
	w.buf, w.start, w.scan, w.piece, w.torn = w.buf[:0], 0, 0, false, false
}

// say puts a notice of the reader's own before what comes next.
func (r *Reader) say(at int64, text string) {
	r.said = append(r.said, logs.Line{Stream: logs.Notice, Time: timeOf(at), Text: []byte(text)})
}

// atEnd handles the end of what there is: the bytes without a record, the lines
// without an end.
func (r *Reader) atEnd() (found bool) {
	if r.following() && !r.gens[0].removed() {
		return r.idle()
	}
	if rec, ok := r.leftover(); ok {
		r.offer(rec)
		return true
	}
	for s := range r.wins {
		r.tail(s)
	}
	r.over = true
	return true
}

// tail hands out the unfinished line of a stream.
func (r *Reader) tail(s int) bool {
	w := &r.wins[s]
	text := w.rest(r.pos[s])
	if len(text) == 0 || !r.o.Since.IsZero() && r.rec.time < r.o.Since.UnixNano() {
		return false
	}
	if r.skipTails > 0 {
		r.skipTails--
		w.cut(len(text))
		return false
	}
	line := r.lineOf(s, slices.Clone(w.cut(len(text))), true)
	line.Seq = (r.gens[0].head.base+uint64(r.pos.total()))*seqStep + numStreams + uint64(s)
	r.said = append(r.said, line)
	return true
}
