package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Change is one path that is not as it was.
type Change struct {
	Path string // below the rule's; "." is that itself
	Gone bool
	Dir  bool // it is, or was, a directory
	// Mode has a directory's permissions, as they were when this was found: a
	// directory that changes and changes back later is not found again.
	Mode uint32
}

// A stamp tells one state of a file from another: the kernel sets ctime with
// every change of content or attributes.
type stamp struct {
	mode         uint32
	size         int64
	ino          uint64
	mtime, ctime unix.Timespec
	// racy says that the clock by which the kernel stamps files had not moved on
	// when this was seen: one more change may leave the very same times.
	racy bool
}

func (s stamp) dir() bool { return s.mode&unix.S_IFMT == unix.S_IFDIR }

// change is what is told of a path that is in this state now.
func (s stamp) change(rel string) Change {
	c := Change{Path: rel, Dir: s.dir()}
	if c.Dir {
		c.Mode = s.mode & 0o7777
	}
	return c
}

// same says whether a path is as it was seen then, compared by what matters: a
// directory's times change with its entries, each of which is looked at for itself.
func (s stamp) same(now stamp) bool {
	if s.dir() && now.dir() {
		return s.mode == now.mode
	}
	now.racy = false
	return s == now
}

// A tree is what was last seen below one path of the host.
type tree struct {
	root  string
	match *matcher
	known map[string]stamp
	// enter is called with every directory before it is read, so that what
	// changes in it from then on is heard of; it says whether that is news.
	enter func(dir string, ino uint64) (fresh bool)
	view  *view // of the look under way; nil: every tree looks for itself
}

func newTree(r Rule, enter func(string, uint64) bool) (*tree, error) {
	m, err := newMatcher(r)
	if err != nil {
		return nil, err
	}
	return &tree{root: r.Path, match: m, known: map[string]stamp{}, enter: enter}, nil
}

// sweep looks at everything.
func (t *tree) sweep() []Change {
	seen := map[string]stamp{}
	t.walk(".", func(rel string, s stamp, skipped bool) bool {
		if !skipped {
			seen[rel] = s
		}
		t.entered(rel, s)
		return true
	})
	var out []Change
	for rel, s := range seen {
		if was, ok := t.known[rel]; !ok || !was.same(s) {
			out = append(out, s.change(rel))
		}
	}
	for rel, was := range t.known {
		if _, ok := seen[rel]; !ok {
			out = append(out, Change{Path: rel, Gone: true, Dir: was.dir()})
		}
	}
	t.known = seen
	return ordered(out)
}

// look looks at some paths, and below those that are new directories.
func (t *tree) look(rels []string) []Change {
	var out []Change
	for _, rel := range rels {
		out = append(out, t.one(rel)...)
	}
	return ordered(latest(out))
}

// latest leaves out what was found of a path that was found to be there once
// more: two of the paths looked at may lead to it, and it may have changed in
// between.
func latest(changes []Change) []Change {
	last := map[string]int{}
	for i, c := range changes {
		if !c.Gone {
			last[c.Path] = i
		}
	}
	out := changes[:0]
	for i, c := range changes {
		if c.Gone || last[c.Path] == i {
			out = append(out, c)
		}
	}
	return out
}

func (t *tree) one(rel string) []Change {
	var out []Change
	found, deep := false, false
	seen := map[string]bool{}
	t.walk(rel, func(rel string, s stamp, skipped bool) bool {
		found = true
		seen[rel] = true
		fresh := t.entered(rel, s)
		was, known := t.known[rel]
		if !skipped && (!known || !was.same(s)) {
			out = append(out, s.change(rel))
		}
		if known && was.dir() && !s.dir() {
			out = append(out, t.gone(rel, false)...)
		}
		if !skipped {
			t.known[rel] = s
		}
		fresh = fresh || !known && !skipped
		deep = deep || fresh && s.dir()
		return fresh
	})
	if !found {
		out = append(out, t.gone(rel, true)...)
	}
	if deep {
		out = append(out, t.replaced(rel, seen)...)
	}
	return out
}

// replaced forgets what was below a directory that another one has taken the
// place of.
func (t *tree) replaced(rel string, seen map[string]bool) []Change {
	var out []Change
	for p, s := range t.known {
		if seen[p] || rel != "." && !strings.HasPrefix(p, rel+"/") {
			continue
		}
		if _, there := t.view.stampOf(filepath.Join(t.root, p)); !there {
			out = append(out, Change{Path: p, Gone: true, Dir: s.dir()})
			delete(t.known, p)
		}
	}
	return out
}

func (t *tree) entered(rel string, s stamp) bool {
	return s.dir() && t.enter(filepath.Join(t.root, rel), s.ino)
}

// gone forgets what was below rel, and with self rel itself.
func (t *tree) gone(rel string, self bool) []Change {
	var out []Change
	was, known := t.known[rel]
	if known && self {
		out = append(out, Change{Path: rel, Gone: true, Dir: was.dir()})
		delete(t.known, rel)
	}
	if known && !was.dir() {
		return out
	}
	for p, s := range t.known {
		if p != "." && (rel == "." || strings.HasPrefix(p, rel+"/")) {
			out = append(out, Change{Path: p, Gone: true, Dir: s.dir()})
			delete(t.known, p)
		}
	}
	return out
}

// walk calls each with what is at rel and, as long as it says so, below it.
// Sockets, pipes and devices are left out.
func (t *tree) walk(rel string, each func(rel string, s stamp, skipped bool) (deeper bool)) {
	s, ok := t.view.stampOf(filepath.Join(t.root, rel))
	if !ok {
		return
	}
	skipped := t.match.skips(rel)
	if skipped && (!s.dir() || t.match.prunes(rel)) {
		return
	}
	if !each(rel, s, skipped) || !s.dir() {
		return
	}
	entries, err := t.view.readNames(filepath.Join(t.root, rel))
	if err != nil {
		return // it went meanwhile, and its going will be heard of
	}
	for _, name := range entries {
		t.walk(filepath.Join(rel, name), each)
	}
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func stampOf(path string) (stamp, bool) {
	var st unix.Stat_t
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) // what files are stamped by
	if err := unix.Lstat(path, &st); err != nil {
		return stamp{}, false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return stamp{mode: st.Mode, size: st.Size, ino: st.Ino, mtime: st.Mtim, ctime: st.Ctim, racy: st.Ctim.Nano() >= now.Nano()}, true
	}
	return stamp{}, false
}

// ordered puts what is gone first, children before their parents, then what is
// there, parents before their children.
func ordered(changes []Change) []Change {
	slices.SortFunc(changes, func(a, b Change) int {
		switch {
		case a.Gone != b.Gone && a.Gone:
			return -1
		case a.Gone != b.Gone:
			return 1
		case a.Gone:
			return strings.Compare(b.Path, a.Path)
		}
		return strings.Compare(a.Path, b.Path)
	})
	return changes
}
