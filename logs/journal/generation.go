package journal

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A generation is one that is being read. Its files stay readable while it is
// open, even when rotation removes them.
type generation struct {
	root  *os.File
	gen   uint64
	head  header
	sound bool // the header could be read
	index *os.File
	files [numStreams]*os.File
	block int64 // number of the first record in cache
	cache []byte
}

// blockRecords are read at once.
const blockRecords = 128

func openGeneration(root *os.File, gen uint64) (*generation, error) {
	f, err := openAt(root, indexName(gen), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	g := &generation{root: root, gen: gen, head: header{gen: gen}, index: f}
	b := make([]byte, headerSize)
	if _, err := f.ReadAt(b, 0); err == nil {
		if h, err := decodeHeader(b); err == nil && h.gen == gen {
			g.head, g.sound = h, true
		}
	}
	if err := g.openStreams(); err != nil {
		g.close()
		return nil, err
	}
	if !g.sound {
		g.head.base = bytesBefore(root, gen)
	}
	return g, nil
}

// bytesBefore is what a damaged header said of the older generations.
func bytesBefore(root *os.File, gen uint64) uint64 {
	older, err := openGeneration(root, gen-1)
	if err != nil {
		return 0
	}
	defer older.close()
	return older.head.base + uint64(older.sizes().total())
}

// openStreams opens what is there by now of the streams' files.
func (g *generation) openStreams() error {
	for s := range g.files {
		if g.files[s] != nil {
			continue
		}
		f, err := openAt(g.root, streamName(s, g.gen), unix.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		g.files[s] = f
	}
	return nil
}

func (g *generation) close() {
	for _, f := range append(g.files[:], g.index) {
		if f != nil {
			f.Close()
		}
	}
}

// removed tells whether rotation has taken the generation away.
func (g *generation) removed() bool {
	var st unix.Stat_t
	return unix.Fstat(int(g.index.Fd()), &st) == nil && st.Nlink == 0
}

// count is how many records the index has now.
func (g *generation) count() int64 {
	if !g.sound {
		return 0
	}
	return max(0, (fileSize(g.index)-headerSize)/recordSize)
}

// record reads record i; false where it is damaged or not there.
func (g *generation) record(i int64) (record, bool) {
	if i < 0 || !g.sound {
		return record{}, false
	}
	if at := (i - g.block) * recordSize; i >= g.block && at+recordSize <= int64(len(g.cache)) {
		if r, ok := decodeRecord(g.cache[at:]); ok {
			return r, true
		}
	}
	g.load(i)
	at := (i - g.block) * recordSize
	if at+recordSize > int64(len(g.cache)) {
		return record{}, false
	}
	return decodeRecord(g.cache[at:])
}

// load reads the block of records around record i, which readers walk through
// in either direction.
func (g *generation) load(i int64) {
	if g.cache == nil {
		g.cache = make([]byte, 0, blockRecords*recordSize)
	}
	g.block = i - i%blockRecords
	g.cache = g.cache[:cap(g.cache)]
	n, _ := g.index.ReadAt(g.cache, headerSize+g.block*recordSize)
	g.cache = g.cache[:n]
}

// before is the state of the streams before record i: what the last sound
// record before it says.
func (g *generation) before(i int64) ends {
	for i--; i >= 0; i-- {
		if r, ok := g.record(i); ok {
			return g.clip(r.ends)
		}
	}
	return ends{}
}

// clip bounds what a record claims by what the files have: after a power cut
// the index may know of bytes that were lost.
func (g *generation) clip(e ends) ends {
	for s, f := range g.files {
		if f == nil {
			e[s] = 0
		} else if e[s] > 0 {
			e[s] = min(e[s], fileSize(f))
		}
	}
	return e
}

// sizes is how long the streams' files are now.
func (g *generation) sizes() ends {
	var e ends
	for s, f := range g.files {
		if f != nil {
			e[s] = fileSize(f)
		}
	}
	return e
}

// search returns the first record whose time is at or after t, or the count.
// Damaged records take the time of the next sound one.
func (g *generation) search(t int64) int64 {
	n := g.count()
	lo, hi := int64(0), n
	for lo < hi {
		mid := lo + (hi-lo)/2
		i := mid
		r, ok := g.record(i)
		for !ok && i+1 < hi {
			i++
			r, ok = g.record(i)
		}
		switch {
		case ok && r.time < t:
			lo = i + 1
		default:
			hi = mid
		}
	}
	return lo
}

// lastTime is the time of the last record, or of the header.
func (g *generation) lastTime() int64 {
	for i := g.count() - 1; i >= 0; i-- {
		if r, ok := g.record(i); ok {
			return r.time
		}
	}
	return g.head.created
}
