package keeper

import (
	"encoding/json"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// The events that happened are kept in the project's folder, one JSON object a
// line, so that `events --since` and `why` can tell of them: at most two files
// of this many bytes, the older one being dropped.
const keptEvents = 1 << 20

// An eventLog writes events down. It is for one goroutine at a time, and what
// it cannot write is lost: no container's life depends on it.
type eventLog struct {
	dir  string
	file *os.File
	size int64
}

func (l *eventLog) write(e engine.Event) {
	if l.dir == "" {
		return
	}
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	if l.file == nil && !l.open() {
		return
	}
	n, err := l.file.Write(append(line, '\n'))
	if err != nil {
		return
	}
	if l.size += int64(n); l.size > keptEvents {
		l.file.Close()
		l.file = nil
		_ = os.Rename(filepath.Join(l.dir, "events"), filepath.Join(l.dir, "events.1"))
	}
}

func (l *eventLog) open() bool {
	f, err := os.OpenFile(filepath.Join(l.dir, "events"), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return false
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Close()
		return false
	}
	l.file, l.size = f, st.Size()
	return true
}
