package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	quiet     = 100 * time.Millisecond // an unfinished line is shown when nothing more came for so long
	pollEvery = 50 * time.Millisecond  // where the kernel gives no more inotify instances
	pinEvery  = 10 * time.Millisecond
	maxPinned = 16 // generations that a follower who lags keeps from being freed
)

// follower is what a Reader needs to wait.
type follower struct {
	watch    *watch
	wake     chan struct{}
	notify   atomic.Pointer[chan<- struct{}]
	dirty    atomic.Bool
	finished atomic.Bool
	resting  bool // nothing was there at the last look
	fresh    time.Time
	pinned   time.Time
	timer    *time.Timer
}

// Finish lets a follower end with io.EOF once it has read what is there. It may
// be called from any goroutine.
func (r *Reader) Finish() {
	r.finished.Store(true)
	r.poke()
}

// Notify has c told, without waiting, whenever Poll may have more.
func (r *Reader) Notify(c chan<- struct{}) {
	r.notify.Store(&c)
	r.poke()
}

func (r *Reader) following() bool { return r.o.Follow && !r.finished.Load() }

func (f *follower) poke() {
	f.dirty.Store(true)
	tell(f.wake)
	if c := f.notify.Load(); c != nil {
		tell(*c)
	}
}

func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (f *follower) stop() {
	if f.timer != nil {
		f.timer.Stop()
	}
	f.watch.close()
}

func (f *follower) pokeIn(d time.Duration) {
	if f.timer == nil {
		f.timer = time.AfterFunc(d, f.poke)
		return
	}
	f.timer.Reset(d)
}

// rest is called when there is nothing to hand out.
func (r *Reader) rest() {
	r.resting = true
	if r.watch == nil && r.following() {
		r.pokeIn(pollEvery)
	}
}

// younger opens generations that began since; false where there are none.
func (r *Reader) younger() (bool, error) {
	r.pinned = time.Now()
	for len(r.gens) <= maxPinned {
		g, err := openGeneration(r.root, r.newest+1)
		if os.IsNotExist(err) {
			break
		}
		if err == nil && g.removed() { // while its streams were opened
			g.close()
			break
		}
		if err != nil {
			return false, err
		}
		r.gens = append(r.gens, g)
		r.newest = g.gen
	}
	if len(r.gens) == 1 && r.gens[0].removed() {
		if err := r.openAll(); err != nil {
			return false, err
		}
	}
	return len(r.gens) > 1, nil
}

// pin opens younger generations in time, so that rotation takes nothing from a
// reader that lags a little.
func (r *Reader) pin(now time.Time) {
	if now.Sub(r.pinned) >= pinEvery {
		for _, g := range r.gens[1:] {
			_ = g.openStreams()
		}
		_, _ = r.younger()
	}
}

// idle is the end of a log that is followed.
func (r *Reader) idle() (found bool) {
	now := time.Now()
	if r.until != 0 {
		if left := r.until - now.UnixNano(); left < 0 {
			r.over = true
			return true
		}
	}
	if r.tail(2) { // a terminal's prompt is shown at once
		return true
	}
	wait := quiet - now.Sub(r.fresh)
	if wait <= 0 {
		return r.giveUnfinished()
	}
	if r.unfinished() {
		r.pokeIn(wait)
	} else if r.until != 0 {
		r.pokeIn(time.Duration(r.until - now.UnixNano()))
	}
	return false
}

func (r *Reader) unfinished() bool {
	for s := range r.wins {
		if len(r.wins[s].rest(r.pos[s])) > 0 {
			return true
		}
	}
	return r.gens[0].sizes().total() > r.pos.total()
}

func (r *Reader) giveUnfinished() (found bool) {
	if rec, ok := r.leftover(); ok {
		r.offer(rec)
		return true
	}
	for s := range r.wins {
		found = r.tail(s) || found
	}
	if !found && r.until != 0 {
		r.pokeIn(time.Until(timeOf(r.until)) + time.Millisecond)
	}
	return found
}

// A watch tells a Reader of changes in its directory. All of a process share
// one inotify instance: a user may have 128.
type watch struct {
	wd int32
	r  *Reader
}

var watcher struct {
	sync.Mutex
	file    *os.File
	readers map[int32]map[*Reader]bool
}

// watchDir returns nil where the kernel refuses; the Reader then looks from
// time to time.
func watchDir(root *os.File, r *Reader) *watch {
	watcher.Lock()
	defer watcher.Unlock()
	if watcher.file == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil
		}
		watcher.file = os.NewFile(uintptr(fd), "inotify")
		watcher.readers = map[int32]map[*Reader]bool{}
		go readEvents(watcher.file)
	}
	// Kernels before 6.5 give no event for splice; the index is written by
	// write(2), so it is what readers wait for.
	n, err := unix.InotifyAddWatch(int(watcher.file.Fd()), fmt.Sprintf("/proc/self/fd/%d", root.Fd()),
		unix.IN_MODIFY|unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_ONLYDIR)
	if err != nil {
		closeUnused()
		return nil
	}
	wd := int32(n)
	if watcher.readers[wd] == nil {
		watcher.readers[wd] = map[*Reader]bool{}
	}
	watcher.readers[wd][r] = true
	return &watch{wd, r}
}

func (w *watch) close() {
	if w == nil {
		return
	}
	watcher.Lock()
	defer watcher.Unlock()
	readers := watcher.readers[w.wd]
	if !readers[w.r] {
		return
	}
	delete(readers, w.r)
	if len(readers) == 0 {
		delete(watcher.readers, w.wd)
		_, _ = unix.InotifyRmWatch(int(watcher.file.Fd()), uint32(w.wd))
	}
	closeUnused()
}

// closeUnused ends the goroutine with its last reader.
func closeUnused() {
	if len(watcher.readers) == 0 && watcher.file != nil {
		watcher.file.Close()
		watcher.file = nil
	}
}

func readEvents(f *os.File) {
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				pokeAll(f)
			}
			return
		}
		watcher.Lock()
		if watcher.file == f {
			deliver(buf[:n])
		}
		watcher.Unlock()
	}
}

// deliver pokes the readers that events are for. An event that was lost to an
// overflow is one for all of them.
func deliver(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		name := string(b[unix.SizeofInotifyEvent:end])
		b = b[end:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, readers := range watcher.readers {
				pokeThem(readers)
			}
			continue
		}
		if strings.HasPrefix(name, indexPrefix) {
			pokeThem(watcher.readers[wd])
		}
	}
}

func pokeThem(readers map[*Reader]bool) {
	for r := range readers {
		r.poke()
	}
}

func pokeAll(f *os.File) {
	watcher.Lock()
	defer watcher.Unlock()
	if watcher.file == f {
		for _, readers := range watcher.readers {
			pokeThem(readers)
		}
	}
}
