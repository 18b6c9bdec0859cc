package chaos

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// TestClockJumps: for who reads them, it is one thing whether the clock is put
// forward or every time on record back. Keepers that come after a jump of a day
// keep what runs, its names and addresses, and its restarts come in time.
func TestClockJumps(t *testing.T) {
	w := newWorld(t, "chaosclock", counting)
	w.must(t, "up", "-d")
	for _, jump := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		before := w.lives(t)
		w.killBoth(t) // who works there writes records, too
		w.shift(t, -jump)
		w.must(t, "up", "-d")
		must(t, w.IsUp())
		for name, was := range before {
			if now := w.lives(t)[name]; now != was {
				t.Errorf("after a jump of %v %s is %s, and was %s", jump, name, now, was)
			}
		}
		w.resolves(t)
		w.restarts(t)
	}
	w.must(t, "down", "-v")
}

// restarts ends the worker under a dead keeper whose successor finds a clock
// that has jumped while the worker waits.
func (w *World) restarts(t *testing.T) {
	t.Helper()
	all, err := w.States()
	must(t, err)
	was := all[w.Project+"-worker-1"].State
	end(t, was.PID)
	w.stateBecomes(t, "worker-1", func(s engine.State) bool { return s.PID != was.PID })
	kernel.Held(t, w.Process("anchor"), func() { // no keeper writes records meanwhile
		end(t, w.Process("keeper"))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		lock, err := store.Acquire(ctx, w.Layout().KeeperLock(w.Project))
		must(t, err)
		defer lock.Release()
		w.shift(t, 24*time.Hour) // it ended tomorrow
	})
	w.stateBecomes(t, "worker-1", func(s engine.State) bool { return s.Status == engine.Running && s.PID != was.PID })
	must(t, w.becomesUp())
}

// shift moves every time in the records of containers and endpoints.
func (w *World) shift(t *testing.T, by time.Duration) {
	t.Helper()
	containers, _ := filepath.Glob(w.Layout().Containers(w.Project) + "/*/state.json")
	endpoints, _ := filepath.Glob(w.Layout().Networks() + "/*/endpoints/*[^~]")
	for _, path := range append(containers, endpoints...) {
		var rec map[string]any
		if store.Read(path, &rec) != nil {
			continue // it has just been replaced
		}
		for key, v := range rec {
			at, err := time.Parse(time.RFC3339Nano, str(v))
			if err == nil && !at.IsZero() {
				rec[key] = at.Add(by)
			}
		}
		must(t, store.WriteUnsynced(path, rec))
		must(t, os.RemoveAll(path+"~"))
	}
}

func str(v any) string {
	s, _ := v.(string)
	return s
}
