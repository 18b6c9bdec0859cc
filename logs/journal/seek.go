package journal

import (
	"bytes"
	"fmt"
)

// A place is before a record of a generation.
type place struct {
	gen int   // place in Reader.gens
	rec int64 // number of the record
}

func (p place) before(q place) bool {
	return p.gen < q.gen || (p.gen == q.gen && p.rec < q.rec)
}

// seek goes to where reading begins, by the index: nothing before that is read
// but the beginning of lines that end after it.
func (r *Reader) seek() {
	from := place{}
	if !r.o.Since.IsZero() {
		from = r.since(r.o.Since.UnixNano())
	}
	if r.o.Tail >= 0 {
		from, r.skip = r.lastLines(from, r.o.Tail)
	}
	r.start(from)
}

// since finds the first record that is not older than t. Should the clock have
// been set back in between, what was written before that is shown, too.
func (r *Reader) since(t int64) place {
	for i, g := range r.gens {
		if g.lastTime() >= t {
			return place{i, g.search(t)}
		}
	}
	last := len(r.gens) - 1
	return place{last, r.gens[last].count()}
}

// end is the place where Until ends the reading; last where that is the end of
// the log.
func (r *Reader) end() (p place, last bool) {
	if r.until != 0 {
		for i, g := range r.gens {
			if n := g.search(r.until + 1); n < g.count() {
				return place{i, n}, false
			}
		}
	}
	i := len(r.gens) - 1
	return place{i, r.gens[i].count()}, true
}

// lastLines goes back from the end until n lines lie between, but not before
// from. It returns the place, and how many lines after it are too many.
func (r *Reader) lastLines(from place, n int) (place, int) {
	at, last := r.end()
	left := int64(n)
	if last {
		left -= r.unfinishedNow()
		r.skipTails = max(0, -left)
		left = max(0, left)
		if left > 0 {
			left -= r.unindexed(at.gen)
		}
	}
	for left > 0 && from.before(at) {
		at = r.back(at)
		g := r.gens[at.gen]
		if at.rec < 0 {
			at.rec = 0
			left -= r.unindexed(at.gen)
			continue
		}
		now, ok := g.record(at.rec)
		if !ok {
			continue
		}
		if at.rec == g.count()-1 && at.gen < len(r.gens)-1 {
			left -= r.unindexed(at.gen)
		}
		left -= g.linesBetween(g.before(at.rec), g.clip(now.ends))
	}
	r.short = int(max(0, left))
	return at, int(max(0, -left))
}

// back is one record earlier, in the generation before where there is none.
func (r *Reader) back(p place) place {
	if p.rec > 0 {
		return place{p.gen, p.rec - 1}
	}
	return place{p.gen - 1, r.gens[p.gen-1].count() - 1}
}

// unindexed counts the lines that a generation has after its last record.
func (r *Reader) unindexed(i int) int64 {
	g := r.gens[i]
	return g.linesBetween(g.before(g.count()), g.sizes())
}

// unfinishedNow counts the streams whose last byte is not the end of a line.
func (r *Reader) unfinishedNow() int64 {
	g := r.gens[len(r.gens)-1]
	var n int64
	for s, size := range g.sizes() {
		var b [1]byte
		if s == noticeSlot {
			continue
		}
		if size == 0 {
			if g.head.goesOn(s) && len(r.gens) > 1 {
				n++
			}
			continue
		}
		if _, err := g.files[s].ReadAt(b[:], size-1); err == nil && b[0] != '\n' {
			n++
		}
	}
	return n
}

// linesBetween counts the lines that end between two states of the streams,
// notices left out.
func (g *generation) linesBetween(a, b ends) int64 {
	var n int64
	for s, f := range g.files {
		if f == nil || s == noticeSlot {
			continue
		}
		for off := a[s]; off < b[s]; {
			buf := make([]byte, min(b[s]-off, MaxLine))
			m, _ := f.ReadAt(buf, off)
			if m == 0 {
				break
			}
			n += int64(bytes.Count(buf[:m], []byte{'\n'}))
			off += int64(m)
		}
	}
	return n
}

// start makes reading begin at p.
func (r *Reader) start(p place) {
	if p == (place{}) && r.skip == 0 {
		r.tellDropped()
	}
	g := r.gens[p.gen]
	r.next, r.pos = p.rec, g.before(p.rec)
	r.rec.time = g.head.created
	if rec, ok := g.record(p.rec - 1); ok {
		r.rec.time = rec.time
	}
	for s := range r.wins {
		w := &r.wins[s]
		w.file, w.off = g.files[s], r.pos[s]
		w.buf, w.torn = r.lineHead(p.gen, s, r.pos[s], MaxLine)
		w.scan = len(w.buf)
	}
	for _, old := range r.gens[:p.gen] {
		old.close()
	}
	r.gens = r.gens[p.gen:]
}

// tellDropped says that there were older lines.
func (r *Reader) tellDropped() {
	if g := r.gens[0]; g.gen > 1 && r.o.Since.IsZero() {
		r.say(g.head.created, fmt.Sprintf("older lines were dropped by rotation (%d bytes)", g.head.base))
	}
}

// lineHead returns what lies between the last end of a line before off and off,
// at most limit bytes of it; torn when the beginning is not there any more.
func (r *Reader) lineHead(gen, s int, off int64, limit int) (head []byte, torn bool) {
	g := r.gens[gen]
	for step := int64(4 << 10); off > 0 && g.files[s] != nil; step *= 4 {
		n := min(step, off)
		buf := make([]byte, n)
		m, _ := g.files[s].ReadAt(buf, off-n)
		if int64(m) < n {
			return head, false
		}
		if i := bytes.LastIndexByte(buf, '\n'); i >= 0 {
			return append(buf[i+1:], head...), false
		}
		head = append(buf, head...)
		off -= n
		if len(head) >= limit {
			return head, false
		}
	}
	if !g.sound || !g.head.goesOn(s) {
		return head, false
	}
	if gen == 0 || r.gens[gen-1].gen != g.gen-1 {
		return nil, true
	}
	older, torn := r.lineHead(gen-1, s, r.gens[gen-1].sizes()[s], limit-len(head))
	if torn {
		return nil, true
	}
	return append(older, head...), false
}
