package journal

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// syncEvery is how much of a log a power cut may take.
const syncEvery = time.Second

// oneSync keeps the logs of fifty containers from syncing all at once.
var oneSync sync.Mutex

// syncSoon has what was written since put on the disk within a second. The
// caller holds the lock.
func (w *Writer) syncSoon() {
	if w.syncing || w.ended {
		return
	}
	w.syncing = true
	time.AfterFunc(syncEvery, w.flush)
}

func (w *Writer) flush() {
	w.mu.Lock()
	w.syncing = false
	if w.ended {
		w.mu.Unlock()
		return
	}
	files := append(w.seg.files[:len(w.seg.files):len(w.seg.files)], w.seg.index)
	retired := w.retired
	w.retired = nil
	rotated := len(retired) > 0
	w.mu.Unlock()

	oneSync.Lock()
	defer oneSync.Unlock()
	for _, f := range append(retired, files...) {
		syncData(f)
	}
	if rotated || !w.named.Swap(true) {
		syncData(w.root)
	}
	for _, f := range retired {
		f.Close()
	}
}

// syncData is fdatasync on a file that may be closed meanwhile.
func syncData(f *os.File) {
	if f == nil {
		return
	}
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.Fdatasync(int(fd)) })
	}
}
