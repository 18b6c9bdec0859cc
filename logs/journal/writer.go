package journal

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Writer takes a container's output into its log directory. One process at a
// time has a directory's Writer; it may be killed at any instant, and the next
// Create goes on where it stopped.
type Writer struct {
	dir  string
	opts Options

	mu      sync.Mutex
	root    *os.File // the directory; its lock keeps other writers out
	seg     *segment // the generation being written
	kept    []closed // older generations, oldest first
	pumps   []*pump
	retired []*os.File // files of closed generations, not synced yet
	syncing bool
	ended   bool
	done    chan struct{} // closed by Close
	hurried chan struct{} // closed by Hurry
	named   atomic.Bool   // the directory was synced since the Writer began
}

// A segment is the generation being written.
type segment struct {
	head  header
	index *os.File
	size  int64 // of the index; a record that could not be written is written over
	last  record
	files [numStreams]*os.File
}

// A closed generation, and what it takes on the disk in bytes.
type closed struct {
	gen   uint64
	bytes int64
}

// failpoint lets tests die between two steps.
var failpoint func(name string)

func reached(name string) {
	if failpoint != nil {
		failpoint(name)
	}
}

// ErrClosed is what a closed Writer answers.
var ErrClosed = errors.New("log is closed")

// Create makes the log in dir, or goes on with the one that is there. It fails
// when another process writes to it, after having waited two seconds for that
// process to end.
func Create(dir string, o Options) (*Writer, error) {
	w, err := create(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	return w, nil
}

func create(dir string, o Options) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: dir, opts: o.bounded(), root: root, done: make(chan struct{}), hurried: make(chan struct{})}
	if err = lock(root, 2*time.Second); err == nil {
		err = w.recover()
	}
	if err != nil {
		w.release()
		return nil, err
	}
	return w, nil
}

// lock takes the directory for this process. A writer that was killed a moment
// ago holds it until its last thread has left the kernel.
func lock(root *os.File, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		err := unix.Flock(int(root.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if (err != unix.EWOULDBLOCK && err != unix.EINTR) || time.Now().After(deadline) {
			return fmt.Errorf("lock it: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// openAt opens a file of the directory and nothing outside of it: a symbolic
// link in its place is refused.
func openAt(root *os.File, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(root.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return regular(fd, name)
	}
}

func regular(fd int, name string) (*os.File, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// stream returns the file of a stream in the current generation, made if need
// be.
func (w *Writer) stream(s int) (*os.File, error) {
	if f := w.seg.files[s]; f != nil {
		return f, nil
	}
	f, err := openAt(w.root, streamName(s, w.seg.head.gen), unix.O_RDWR|unix.O_CREAT)
	if err == nil {
		w.seg.files[s] = f
	}
	return f, err
}

// mark records that a stream grew by n bytes at the given time. A record that
// the disk has no room for is not missed: the next one covers it.
func (w *Writer) mark(s int, n, now int64) {
	seg := w.seg
	seg.last.stream, seg.last.time = s, now
	seg.last.ends[s] += n
	var b [recordSize]byte
	seg.last.encode(b[:])
	if m, err := unix.Pwrite(int(seg.index.Fd()), b[:], seg.size); err == nil && m == recordSize {
		seg.size += recordSize
	}
	w.syncSoon()
}

// now is the time for the next record. Within a generation time never falls,
// which is what lets readers search; a clock set back begins a new one.
func (w *Writer) now() int64 {
	now := time.Now().UnixNano()
	last := w.seg.last.time
	if now >= last {
		return now
	}
	if last-now > int64(2*time.Second) && w.rotate(now) == nil {
		return now
	}
	return last
}

// Notice puts a line of davit's own into the log, such as "restarted, exit 1".
func (w *Writer) Notice(text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return ErrClosed
	}
	for _, p := range w.pumps {
		p.catchUp()
	}
	return w.notice(text)
}

func (w *Writer) notice(text string) error {
	now := w.now()
	w.makeRoom(now)
	f, err := w.stream(noticeSlot)
	if err == nil {
		line := []byte(strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", " ") + "\n")
		err = w.append(f, noticeSlot, line, now)
	}
	if err != nil {
		return fmt.Errorf("write notice to log %s: %w", w.dir, err)
	}
	return nil
}

// append writes bytes of davit's own behind a stream, all or none.
func (w *Writer) append(f *os.File, s int, b []byte, now int64) error {
	end := w.seg.last.ends[s]
	n, err := f.WriteAt(b, end)
	if err != nil {
		if n > 0 {
			err = errors.Join(err, f.Truncate(end))
		}
		return err
	}
	w.mark(s, int64(n), now)
	return nil
}

// Close ends the log; what was taken stays. Pumps that still run end with
// ErrClosed.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil
	}
	close(w.done)
	w.release()
	return nil
}

func (w *Writer) release() {
	w.ended = true
	if w.seg != nil {
		w.retire(w.seg)
	}
	for _, f := range w.retired {
		f.Close()
	}
	w.retired = nil
	w.root.Close()
}

// Hurry has the pumps take what comes at once, and let nothing gather any more:
// for a container that has ended. It is idempotent.
func (w *Writer) Hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.hurried:
	default:
		close(w.hurried)
	}
}

// hurrying says whether there is nothing to wait for.
func (w *Writer) hurrying() bool {
	select {
	case <-w.hurried:
		return true
	default:
		return false
	}
}

// Dir is the directory of the log.
func (w *Writer) Dir() string { return w.dir }
