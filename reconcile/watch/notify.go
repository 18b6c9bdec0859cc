package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// A notifier collects the paths that the kernel says have changed. Where the
// kernel cannot watch as many directories as there are, everything is looked at
// again and again instead.
type notifier struct {
	say  func(string)
	w    *fsnotify.Watcher // nil: polling
	wake chan struct{}     // has something when there is news

	mu    sync.Mutex
	paths map[string]bool
	all   bool // what has changed is not known: look at everything
	first time.Time
	last  time.Time
	storm bool // the last batch was a large one, and more of it may be coming

	byPath map[string]uint64 // directories watched and their inodes
	byIno  map[uint64]string
}

// pollEvery is how often everything is looked at without the kernel's help.
const pollEvery = 500 * time.Millisecond

func newNotifier(say func(string)) *notifier {
	n := &notifier{
		say: say, wake: make(chan struct{}, 1), paths: map[string]bool{},
		byPath: map[string]uint64{}, byIno: map[uint64]string{},
	}
	w, err := fsnotify.NewBufferedWatcher(4096)
	if err != nil {
		n.poll(err)
		return n
	}
	n.w = w
	return n
}

// poll goes over to looking at everything, and says which limit is to blame.
func (n *notifier) poll(err error) {
	if n.w != nil {
		n.w.Close()
		n.w = nil
	}
	clear(n.byPath)
	clear(n.byIno)
	text := fmt.Sprintf("files cannot be watched (%v): looking at all of them every %s instead", err, pollEvery)
	switch {
	case errors.Is(err, unix.ENOSPC):
		text = limitText("directories", "fs.inotify.max_user_watches", "524288")
	case errors.Is(err, unix.EMFILE):
		text = limitText("programs", "fs.inotify.max_user_instances", "1024")
	}
	n.say(text)
}

func limitText(what, sysctl, better string) string {
	is := "low"
	if b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(sysctl, ".", "/")); err == nil {
		is = strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("the kernel's limit of watched %s, %s, is %s: looking at all files every %s instead. More are allowed by: sysctl -w %s=%s",
		what, sysctl, is, pollEvery, sysctl, better)
}

// enter watches a directory, unless it is being watched; it says whether that
// is news.
func (n *notifier) enter(dir string, ino uint64) bool {
	if n.w == nil {
		return false
	}
	if had, ok := n.byPath[dir]; ok {
		if had == ino {
			return false
		}
		n.leave(dir)
	}
	if old, ok := n.byIno[ino]; ok {
		n.leave(old) // it was moved
	}
	err := n.w.Add(dir)
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EMFILE):
		n.poll(err)
		return false
	case err != nil:
		return false // it went meanwhile
	}
	n.byPath[dir], n.byIno[ino] = ino, dir
	return true
}

func (n *notifier) leave(dir string) {
	ino := n.byPath[dir]
	delete(n.byPath, dir)
	if n.byIno[ino] == dir {
		delete(n.byIno, ino)
	}
	_ = n.w.Remove(dir) // the kernel may have done so already
}

// forget stops watching what was at a path that is no longer there.
func (n *notifier) forget(path string) {
	if _, ok := n.byPath[path]; !ok {
		return
	}
	for dir := range n.byPath {
		if dir == path || strings.HasPrefix(dir, path+"/") {
			n.leave(dir)
		}
	}
}

// collect takes in what the kernel says until the watcher is closed.
func (n *notifier) collect(w *fsnotify.Watcher) {
	for {
		select {
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			n.note(e.Name, false, e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename))
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				n.note("", true, false)
			}
		}
	}
}

// note adds a path; left says that what was there has gone.
func (n *notifier) note(path string, all, left bool) {
	n.mu.Lock()
	now := time.Now()
	if len(n.paths) == 0 && !n.all {
		n.first = now
	}
	n.last = now
	n.all = n.all || all
	if path != "" {
		n.paths[filepath.Clean(path)] = n.paths[filepath.Clean(path)] || left
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// take returns what has been collected, and begins anew. The paths that are
// true have been left by what was there.
func (n *notifier) take() (paths map[string]bool, all bool, first time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	paths, all, first = n.paths, n.all, n.first
	n.paths, n.all = map[string]bool{}, false
	return paths, all, first
}

// stormy is told how many changes a batch had.
func (n *notifier) stormy(changes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.storm = changes > 50 || n.storm && changes > 10
}

// quiet is how long a batch waits for more: a single save is passed on at once,
// a storm is let blow over, but not for ever.
func (n *notifier) quiet() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	wait := 4 * time.Millisecond
	if len(n.paths) > 50 || n.all || n.storm {
		wait = 60 * time.Millisecond
	}
	if latest := n.first.Add(400 * time.Millisecond); n.last.Add(wait).After(latest) {
		return time.Until(latest)
	}
	return time.Until(n.last.Add(wait))
}
