package chaos

import (
	"context"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// TestDownWaitsForTheAnchor: an anchor whose keeper was killed at its very end
// starts another one; down must not return while that may still come.
func TestDownWaitsForTheAnchor(t *testing.T) {
	w := newWorld(t, "chaosleave", "services: {a: {image: busybox, command: sleep 1000d, stop_signal: SIGKILL}}\n")
	w.must(t, "up", "-d")
	w.must(t, "stop")
	kernel.Eventually(t, patience, "the anchor has left", func() bool { return w.Process("anchor") == 0 })
	lock, err := store.Acquire(context.Background(), w.Layout().AnchorLock(w.Project))
	must(t, err)
	ended := make(chan error, 1)
	down := w.later("down", "-v")
	go func() { _, err := down(); ended <- err }()
	select {
	case err := <-ended:
		t.Errorf("down returned while an anchor lived: %v", err)
	case <-time.After(300 * time.Millisecond):
		lock.Release()
		must(t, <-ended)
	}
}
