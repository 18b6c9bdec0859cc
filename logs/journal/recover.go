package journal

import (
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recover finds where the last writer stopped. Bytes are never lost in
// between: splice moves them from the pipe to the file in one step, so they lie
// in one or the other. What may be missing is the record of the last bytes.
func (w *Writer) recover() error {
	gens, strays, err := generations(w.root)
	if err != nil {
		return err
	}
	w.sweep(strays)
	slices.Sort(gens)
	for _, g := range gens {
		w.kept = append(w.kept, closed{g, w.weigh(g)})
	}
	if len(gens) == 0 {
		w.seg, err = w.begin(header{gen: 1, created: time.Now().UnixNano()})
		return err
	}
	return w.resume()
}

// sweep removes what a killed writer left of files it was making or removing.
func (w *Writer) sweep(strays []string) {
	for _, name := range strays {
		if _, _, ok := parseName(strings.TrimSuffix(name, ".tmp")); ok {
			_ = unix.Unlinkat(int(w.root.Fd()), name, 0)
		}
	}
}

func (w *Writer) weigh(gen uint64) int64 {
	var sum int64
	for _, name := range generationFiles(gen) {
		var st unix.Stat_t
		if unix.Fstatat(int(w.root.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			sum += st.Size
		}
	}
	return sum
}

func generationFiles(gen uint64) []string {
	names := []string{indexName(gen)}
	for s := range streamNames {
		names = append(names, streamName(s, gen))
	}
	return names
}

// resume goes on with the last generation, or begins another where that one
// cannot be trusted: a damaged header, or streams shorter than the index says
// (a power cut).
func (w *Writer) resume() error {
	last := w.kept[len(w.kept)-1]
	w.kept = w.kept[:len(w.kept)-1]
	seg, sound, err := w.reopen(last.gen)
	if err != nil {
		return err
	}
	w.seg = seg
	if !sound {
		return w.rotate(time.Now().UnixNano())
	}
	return nil
}

func (w *Writer) reopen(gen uint64) (seg *segment, sound bool, err error) {
	index, err := openAt(w.root, indexName(gen), unix.O_RDWR)
	if err != nil {
		return nil, false, err
	}
	seg = &segment{head: header{gen: gen}, index: index, size: headerSize}
	b := make([]byte, headerSize)
	if _, err := index.ReadAt(b, 0); err == nil {
		if h, err := decodeHeader(b); err == nil && h.gen == gen {
			seg.head, sound = h, true
			seg.last.time = h.created
		}
	}
	if sound {
		seg.lastRecord()
	} else {
		seg.head.base = bytesBefore(w.root, gen)
	}
	short, err := w.measure(seg)
	return seg, sound && !short, err
}

// lastRecord finds the end of the index: the last record that is whole. A torn
// one after it will be written over.
func (s *segment) lastRecord() {
	size := fileSize(s.index)
	b := make([]byte, recordSize)
	for n := (size - headerSize) / recordSize; n > 0; n-- {
		at := headerSize + (n-1)*recordSize
		if _, err := s.index.ReadAt(b, at); err != nil {
			continue
		}
		if r, ok := decodeRecord(b); ok {
			s.last, s.size = r, at+recordSize
			break
		}
	}
	if size > s.size {
		_ = s.index.Truncate(s.size)
	}
}

// measure compares the streams' files with the index and records what it does
// not know of. The time of such bytes is that of the file, which the kernel
// keeps.
func (w *Writer) measure(seg *segment) (short bool, err error) {
	for s := range streamNames {
		f, err := openAt(w.root, streamName(s, seg.head.gen), unix.O_RDWR)
		if os.IsNotExist(err) {
			short = short || seg.last.ends[s] > 0
			continue
		}
		if err != nil {
			return false, err
		}
		seg.files[s] = f
		if size := fileSize(f); size < seg.last.ends[s] {
			short = true
			seg.last.ends[s] = size
		}
	}
	if short {
		return true, nil
	}
	w.seg = seg
	for s, f := range seg.files {
		if f == nil {
			continue
		}
		if extra := fileSize(f) - seg.last.ends[s]; extra > 0 {
			w.mark(s, extra, max(seg.last.time, min(modified(f), time.Now().UnixNano())))
		}
	}
	return false, nil
}

func fileSize(f *os.File) int64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Size
}

func modified(f *os.File) int64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Mtim.Nano()
}
