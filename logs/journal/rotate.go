package journal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// spareGenerations may exist beyond MaxFiles: short ones, begun when the clock
// was set back or a damaged one was left behind.
const spareGenerations = 16

// bytes is what the generation takes on the disk.
func (s *segment) bytes() int64 { return s.last.ends.total() + s.size }

// makeRoom begins a new generation when the current one is full. Where that
// fails the current one grows on: output matters more than its limit.
func (w *Writer) makeRoom(now int64) {
	if w.seg.bytes() >= w.opts.MaxSize {
		_ = w.rotate(now)
	}
}

// room is how many bytes the next chunk may have.
func (w *Writer) room() int {
	left := w.opts.MaxSize - w.seg.bytes() - recordSize
	return int(min(max(left, minSegment), maxChunk))
}

// rotate closes the current generation and begins the next. Older ones go
// first, since the disk may be full.
func (w *Writer) rotate(now int64) error {
	old := w.seg
	w.prune(append(w.kept[:len(w.kept):len(w.kept)], closed{old.head.gen, old.bytes()}))
	next := header{
		gen:       old.head.gen + 1,
		continues: old.unfinished(),
		created:   now,
		base:      old.head.base + uint64(old.last.ends.total()),
	}
	seg, err := w.begin(next)
	if err != nil {
		return fmt.Errorf("begin generation %d of log %s: %w", next.gen, w.dir, err)
	}
	w.kept = append(w.kept, closed{old.head.gen, old.bytes()})
	w.seg = seg
	w.retire(old)
	w.syncSoon()
	return nil
}

// unfinished tells the streams whose last byte is not the end of a line.
func (s *segment) unfinished() uint32 {
	var bits uint32
	for i, end := range s.last.ends {
		if end == 0 {
			bits |= s.head.continues & (1 << i)
			continue
		}
		var b [1]byte
		if s.files[i] == nil {
			continue
		}
		if _, err := s.files[i].ReadAt(b[:], end-1); err == nil && b[0] != '\n' {
			bits |= 1 << i
		}
	}
	return bits
}

// begin makes an index that is there wholly or not at all. It is not synced
// here: after a power cut a missing one costs a second of log.
func (w *Writer) begin(h header) (*segment, error) {
	name := indexName(h.gen)
	tmp := name + ".tmp"
	f, err := openAt(w.root, tmp, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return nil, err
	}
	reached("index made")
	if _, err = f.WriteAt(h.encode(), 0); err == nil {
		reached("index written")
		err = unix.Renameat(int(w.root.Fd()), tmp, int(w.root.Fd()), name)
	}
	if err != nil {
		f.Close()
		_ = unix.Unlinkat(int(w.root.Fd()), tmp, 0)
		return nil, err
	}
	reached("index renamed")
	return &segment{head: h, index: f, size: headerSize, last: record{time: h.created}}, nil
}

// prune removes the oldest of the given closed generations until the others
// leave room for one that is full.
func (w *Writer) prune(all []closed) {
	var sum int64
	for _, c := range all {
		sum += c.bytes
	}
	limit := w.opts.MaxSize * int64(w.opts.MaxFiles-1)
	slack := int64(w.opts.MaxFiles-1) * (minSegment + recordSize)
	for len(w.kept) > 0 && (sum > limit+slack || len(all) >= w.opts.MaxFiles+spareGenerations) {
		sum -= all[0].bytes
		w.remove(all[0].gen)
		all, w.kept = all[1:], w.kept[1:]
	}
}

// remove takes a generation away, its index first: what is left of it after a
// crash belongs to no generation, and the next Create removes it.
func (w *Writer) remove(gen uint64) {
	_ = unix.Unlinkat(int(w.root.Fd()), indexName(gen), 0)
	reached("index removed")
	for s := range streamNames {
		_ = unix.Unlinkat(int(w.root.Fd()), streamName(s, gen), 0)
		reached("stream removed")
	}
}

// retire hands a generation's files over to be synced and closed.
func (w *Writer) retire(s *segment) {
	for _, f := range append(s.files[:], s.index) {
		if f != nil {
			w.retired = append(w.retired, f)
		}
	}
}

// generations lists the generations in a directory, in order, and the files
// that belong to none.
func generations(root *os.File) (gens []uint64, strays []string, err error) {
	names, err := listNames(root)
	if err != nil {
		return nil, nil, err
	}
	have := map[uint64]bool{}
	for _, n := range names {
		if what, gen, ok := parseName(n); ok && what == "index" {
			have[gen] = true
			gens = append(gens, gen)
		}
	}
	for _, n := range names {
		if _, gen, ok := parseName(n); !ok || !have[gen] {
			strays = append(strays, n)
		}
	}
	return gens, strays, nil
}

func listNames(root *os.File) ([]string, error) {
	fd, err := unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // the directory itself was removed
	}
	if err != nil {
		return nil, err
	}
	d := os.NewFile(uintptr(fd), root.Name())
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return names, err
}
