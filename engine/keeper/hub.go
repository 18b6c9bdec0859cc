package keeper

import (
	"sync"
	"time"

	"github.com/davit-run/davit/engine"
)

// backlog is how many events a slow watcher may be behind before it is let go.
const backlog = 1024

// A hub tells events to everybody who watches.
type hub struct {
	mu       sync.Mutex
	watchers map[chan engine.Event]struct{}
	past     eventLog
}

// watch returns a channel of events from now on; it is closed when its reader
// is too slow. done ends it.
func (h *hub) watch() (events <-chan engine.Event, done func()) {
	ch := make(chan engine.Event, backlog)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = make(map[chan engine.Event]struct{})
	}
	h.watchers[ch] = struct{}{}
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(ch)
	}
}

func (h *hub) drop(ch chan engine.Event) {
	if _, ok := h.watchers[ch]; ok {
		delete(h.watchers, ch)
		close(ch)
	}
}

func (h *hub) tell(e engine.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now().UTC() // under the lock: later ones are told later
	}
	h.past.write(e)
	for ch := range h.watchers {
		select {
		case ch <- e:
		default:
			h.drop(ch)
		}
	}
}
