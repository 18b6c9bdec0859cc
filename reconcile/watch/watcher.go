package watch

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Batch is what changed in one go.
type Batch struct {
	Tasks []Task
	Since time.Time // when the first change was heard of
}

// A Watcher looks after the paths of rules.
type Watcher struct {
	rules []Rule
	trees []*tree
	n     *notifier
}

// New begins to watch: whatever changes from now on is part of a batch. say is
// told, once, when the kernel's limits allow only polling.
func New(rules []Rule, say func(string)) (*Watcher, error) {
	w := &Watcher{rules: rules, n: newNotifier(say)}
	for _, r := range rules {
		t, err := newTree(r, w.n.enter)
		if err != nil {
			w.Close()
			return nil, err
		}
		w.trees = append(w.trees, t)
	}
	for _, t := range w.trees {
		t.sweep()
		w.above(t)
	}
	return w, nil
}

// Close stops watching.
func (w *Watcher) Close() {
	if w.n.w != nil {
		w.n.w.Close()
	}
}

// Polling says whether the kernel's limits were too low to watch.
func (w *Watcher) Polling() bool { return w.n.w == nil }

// above watches the directory that a tree's root is in, so that its coming,
// going and being replaced are heard of.
func (w *Watcher) above(t *tree) {
	dir := filepath.Dir(t.root)
	if s, ok := stampOf(dir); ok && s.dir() {
		w.n.enter(dir, s.ino)
	}
}

// Everything is a batch of all that the rules accept, as if it had just been
// changed; the rules without initial_sync are left out when initial is true.
func (w *Watcher) Everything(initial bool) []Task { return everything(w.rules, w.trees, initial) }

// Initial is what the rules with initial_sync accept as it is now, for a
// container that is about to be started.
func Initial(rules []Rule) ([]Task, error) {
	var trees []*tree
	for _, r := range rules {
		t, err := newTree(r, func(string, uint64) bool { return false })
		if err != nil {
			return nil, err
		}
		if r.Initial {
			t.sweep()
		}
		trees = append(trees, t)
	}
	return everything(rules, trees, true), nil
}

func everything(rules []Rule, trees []*tree, initial bool) []Task {
	found := map[int][]Change{}
	for i, t := range trees {
		if initial && (!rules[i].Initial || rules[i].Target == "") {
			continue
		}
		for rel, s := range t.known {
			found[i] = append(found[i], s.change(rel))
		}
		ordered(found[i])
	}
	tasks := Decide(rules, found)
	for i := range tasks {
		tasks[i].Restart, tasks[i].Rebuild, tasks[i].Exec = false, false, nil
	}
	return tasks
}

// Run calls each with one batch after the other until ctx ends. What changes
// while each is at work is part of the next one.
func (w *Watcher) Run(ctx context.Context, each func(Batch)) {
	if w.n.w != nil {
		go w.n.collect(w.n.w)
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.n.wake:
			if !w.settle(ctx) {
				return
			}
		case <-tick.C:
			if !w.missing() {
				continue
			}
		}
		found, since := w.changes()
		if tasks := Decide(w.rules, found); len(tasks) > 0 {
			each(Batch{Tasks: tasks, Since: since})
		}
	}
}

// settle waits until a batch is complete.
func (w *Watcher) settle(ctx context.Context) bool {
	for {
		wait := w.n.quiet()
		if wait <= 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// missing says whether the clock must do what no event does: polling, and
// waiting for a root to come back whose parent went with it.
func (w *Watcher) missing() bool {
	if w.Polling() {
		w.n.note("", true, false)
		return true
	}
	back := false
	for _, t := range w.trees {
		if len(t.known) > 0 {
			continue
		}
		if _, err := os.Lstat(t.root); err == nil {
			w.n.note(t.root, false, false)
			back = true
		}
	}
	return back
}

// many is the number of paths from which it is cheaper to look at everything.
const many = 200

// changes looks at what was collected.
func (w *Watcher) changes() (map[int][]Change, time.Time) {
	paths, all, first := w.n.take()
	if w.n.w != nil {
		for p, left := range paths {
			if left {
				w.n.forget(p)
			}
		}
	}
	found, total := map[int][]Change{}, 0
	var same *view
	if len(w.trees) > 1 {
		same = newView()
	}
	for i, t := range w.trees {
		t.view = same
		rels := t.below(paths)
		w.above(t)
		switch {
		case all || len(rels) > many:
			found[i] = t.sweep()
		case len(rels) > 0:
			found[i] = t.look(rels)
		}
		total += len(found[i])
		t.view = nil
	}
	w.n.stormy(total)
	return found, first
}

// below are the paths that are in the tree, relative to its root.
func (t *tree) below(paths map[string]bool) []string {
	var out []string
	for p := range paths {
		if p == t.root {
			out = append(out, ".")
		} else if rel, ok := strings.CutPrefix(p, t.root+"/"); ok {
			out = append(out, rel)
		}
	}
	return out
}
