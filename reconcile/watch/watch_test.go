package watch

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/picture"
)

// A replica is a directory kept like another by nothing but the watcher's
// batches.
type replica struct {
	mu   sync.Mutex
	dir  string
	errs []string
}

func (r *replica) apply(tasks []Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tasks {
		for _, f := range t.Files {
			if err := r.file(f); err != nil {
				r.errs = append(r.errs, err.Error())
			}
		}
	}
}

func (r *replica) file(f File) error {
	to := filepath.Join(r.dir, f.To)
	if f.Gone {
		_ = os.Remove(to)
		return nil
	}
	if f.Dir { // as found: it may have changed since or gone, and may be so again
		if have, err := os.Lstat(to); err == nil && !have.IsDir() {
			os.RemoveAll(to)
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		return os.Chmod(to, fs.FileMode(f.Mode))
	}
	st, err := os.Lstat(f.From)
	if err != nil {
		return nil // gone meanwhile
	}
	if have, err := os.Lstat(to); err == nil && have.Mode().Type() != st.Mode().Type() || err == nil && st.Mode()&fs.ModeSymlink != 0 {
		os.RemoveAll(to)
	}
	os.MkdirAll(filepath.Dir(to), 0o755)
	switch {
	case st.IsDir():
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	case st.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(f.From)
		if err != nil {
			return nil
		}
		return os.Symlink(target, to)
	default:
		b, err := os.ReadFile(f.From)
		if err != nil {
			return nil
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(to, st.Mode().Perm())
}

// follow keeps a replica of the rules' files until the test ends.
func follow(t *testing.T, rules []Rule) *replica {
	t.Helper()
	w, err := New(rules, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{dir: t.TempDir()}
	r.apply(w.Everything(false))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func(b Batch) { r.apply(b.Tasks) })
	}()
	t.Cleanup(func() { cancel(); <-done; w.Close() })
	return r
}

// becomes waits until the replica looks as it must.
func (r *replica) becomes(t *testing.T, want func() string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		r.mu.Lock()
		got := picture.Of(r.dir, nil, nil)
		r.mu.Unlock()
		wanted := want()
		if got == wanted {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the replica differs:\n%s\nerrors: %v", picture.Difference(got, wanted), r.errs)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// counted is the filter of the storms, written apart from the one under test.
func counted(rel string) bool {
	for _, part := range strings.Split(rel, "/") {
		if part == "skip" || part == ".git" || strings.HasSuffix(part, ".tmp") {
			return false
		}
	}
	return true
}

// A storm of random edits leaves the replica equal to the filtered original.
func TestStorms(t *testing.T) {
	operations, seeds := 1000, 2
	if os.Getenv("DAVIT_LONG") != "" {
		operations, seeds = 10_000, 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "src")
			must(t, os.Mkdir(dir, 0o755))
			r := follow(t, []Rule{{Service: "web", Action: Sync, Path: dir, Target: "/", Ignore: []string{"**/skip", "**/*.tmp"}}})
			storm(rand.New(rand.NewPCG(uint64(seed), 7)), dir, operations)
			r.becomes(t, func() string { return picture.Of(dir, counted, nil) })
		})
	}
}

// storm does random things below a directory.
func storm(rnd *rand.Rand, dir string, operations int) {
	name := func() string {
		p := dir
		for range 1 + rnd.IntN(3) {
			p = filepath.Join(p, []string{"a", "b", "c", "d", "skip", "e.tmp", "f"}[rnd.IntN(7)])
		}
		return p
	}
	for i := range operations {
		p := name()
		switch rnd.IntN(10) {
		case 0, 1:
			os.MkdirAll(p, 0o755)
		case 2, 3, 4:
			os.WriteFile(p, fmt.Append(nil, i), 0o644)
		case 5:
			os.Rename(p, name())
		case 6:
			os.Remove(p)
		case 7:
			os.RemoveAll(p)
		case 8:
			if st, err := os.Lstat(p); err == nil && st.Mode()&fs.ModeSymlink == 0 {
				os.Chmod(p, []os.FileMode{0o700, 0o755, 0o750}[rnd.IntN(3)])
			}
		case 9:
			os.Symlink(fmt.Sprint("to-", i), p)
		}
		if rnd.IntN(100) == 0 {
			time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Five thousand files that come at once are one or two batches, soon. At once
// means while the batch of a first one is at work: a busy machine may take
// longer to make them than a batch waits.
func TestManyFilesAreFewBatches(t *testing.T) {
	dir := t.TempDir()
	w, err := New([]Rule{{Service: "web", Action: Sync, Path: dir, Target: "/app"}}, func(string) {})
	must(t, err)
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen, batches := map[string]bool{}, 0
	done, begun, written := make(chan time.Time, 1), make(chan bool), make(chan bool)
	go w.Run(ctx, func(b Batch) {
		if batches++; batches == 1 {
			close(begun)
			<-written
		}
		for _, f := range b.Tasks[0].Files {
			seen[f.To] = true
		}
		if len(seen) == 5051 {
			select {
			case done <- time.Now():
			default:
			}
		}
	})
	must(t, os.WriteFile(filepath.Join(dir, "first"), nil, 0o644))
	<-begun
	for d := range 50 {
		sub := filepath.Join(dir, fmt.Sprint("d", d))
		must(t, os.Mkdir(sub, 0o755))
		for i := range 100 {
			must(t, os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), nil, 0o644))
		}
	}
	start := time.Now()
	close(written)
	select {
	case at := <-done:
		t.Logf("%d batches, the last one %s after the last file", batches, at.Sub(start))
		if batches > 20 {
			t.Errorf("%d batches", batches)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("not all were seen")
	}
}

// What editors do when they save leaves one change of the file, and nothing of
// the files beside it.
func TestSavesOfEditors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	must(t, os.WriteFile(file, []byte("one"), 0o644))
	r := follow(t, []Rule{{Service: "web", Action: Sync, Path: dir, Target: "/"}})
	for name, save := range map[string]func(text string){
		"in place": func(text string) { must(t, os.WriteFile(file, []byte(text), 0o644)) },
		"by rename": func(text string) {
			must(t, os.WriteFile(file+"~", []byte(text), 0o644))
			must(t, os.Rename(file+"~", file))
		},
		"by moving the old one away": func(text string) {
			must(t, os.WriteFile(filepath.Join(dir, "4913"), nil, 0o644))
			must(t, os.Remove(filepath.Join(dir, "4913")))
			must(t, os.Rename(file, file+"~"))
			must(t, os.WriteFile(file, []byte(text), 0o644))
			must(t, os.Remove(file+"~"))
		},
		"deleted and written again": func(text string) {
			must(t, os.Remove(file))
			must(t, os.WriteFile(file, []byte(text), 0o644))
		},
	} {
		save(name)
		r.becomes(t, func() string { return fmt.Sprintf("-rw-r--r-- main.go %q\n", name) })
	}
}

// A directory that is moved away and back, or replaced, is followed.
func TestMovedRoots(t *testing.T) {
	up := t.TempDir()
	dir := filepath.Join(up, "src")
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("1"), 0o644))
	r := follow(t, []Rule{{Service: "web", Action: Sync, Path: dir, Target: "/"}})
	host := func() string { return picture.Of(dir, nil, nil) }
	r.becomes(t, host)
	must(t, os.Rename(dir, dir+"-old"))
	r.becomes(t, func() string { return "" })
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "new"), []byte("2"), 0o644))
	r.becomes(t, host)
	must(t, os.RemoveAll(dir))
	r.becomes(t, func() string { return "" })
	must(t, os.Rename(dir+"-old", dir))
	r.becomes(t, host)
	must(t, os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("3"), 0o644))
	r.becomes(t, host)
}

// A single file is followed through being replaced.
func TestASingleFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "conf")
	must(t, os.WriteFile(file, []byte("1"), 0o600))
	r := follow(t, []Rule{{Service: "web", Action: Sync, Path: file, Target: "/etc-conf"}})
	r.becomes(t, func() string { return "-rw------- etc-conf \"1\"\n" })
	must(t, os.WriteFile(file+".new", []byte("2"), 0o644))
	must(t, os.Rename(file+".new", file))
	r.becomes(t, func() string { return "-rw-r--r-- etc-conf \"2\"\n" })
}

// Include, ignore, .dockerignore and what ! brings back.
func TestWhatCounts(t *testing.T) {
	r := Rule{
		Service: "web", Path: "/p/src", Context: "/p", Dockerignore: []string{"**/*.log", "src/gen", "!src/gen/keep.go"},
		Ignore: []string{"node_modules/", "*.test.js"}, Include: []string{"**/*.go", "**/*.log", "lib"},
	}
	m, err := newMatcher(r)
	must(t, err)
	for rel, counts := range map[string]bool{
		"a.go": true, "deep/down/a.go": true, "a.js": false, "a.log": false, "gen/x.go": false, "gen/keep.go": true,
		"node_modules/a.go": false, "lib/any.txt": true, ".git/a.go": false, "a.go~": false, ".a.go.swp": false, "x.test.js": false,
	} {
		if got := !m.skips(rel); got != counts {
			t.Errorf("%s counts: %t, want %t", rel, got, counts)
		}
	}
	if m.prunes("gen") || !m.prunes("node_modules") {
		t.Error("gen must be looked into, node_modules must not")
	}
}

// Without the kernel's help everything is found all the same, and the limit to
// raise is named.
func TestPolling(t *testing.T) {
	dir := t.TempDir()
	var told []string
	w, err := New([]Rule{{Service: "web", Action: Sync, Path: dir, Target: "/"}}, func(s string) { told = append(told, s) })
	must(t, err)
	w.n.poll(os.NewSyscallError("inotify_add_watch", unix.ENOSPC))
	if len(told) != 1 || !strings.Contains(told[0], "sysctl -w fs.inotify.max_user_watches=") || !w.Polling() {
		t.Fatalf("told %q", told)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	found := make(chan Batch, 1)
	go w.Run(ctx, func(b Batch) { found <- b })
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	select {
	case b := <-found:
		if len(b.Tasks) != 1 || b.Tasks[0].Files[0].To != "/f" {
			t.Errorf("got %+v", b)
		}
	case <-time.After(time.Minute):
		t.Error("not found")
	}
}

// A directory that changes while a batch is looked at, and is met there twice, is
// told of as it was met last.
func TestADirectoryThatIsMetTwice(t *testing.T) {
	root := t.TempDir()
	sub := filepath.Join(root, "d/sub")
	must(t, os.MkdirAll(sub, 0o700))
	must(t, os.Chmod(sub, 0o700))
	tr, err := newTree(Rule{Service: "web", Action: Sync, Path: root, Target: "/"}, func(dir string, _ uint64) bool {
		if dir == filepath.Dir(sub) {
			must(t, os.Chmod(sub, 0o750))
		}
		return true
	})
	must(t, err)
	var modes []uint32
	for _, c := range tr.look([]string{"d/sub", "d"}) {
		if c.Path == "d/sub" {
			modes = append(modes, c.Mode)
		}
	}
	if !slices.Equal(modes, []uint32{0o750}) {
		t.Errorf("told of modes %o, want 750 alone", modes)
	}
	if again := tr.look([]string{"d/sub"}); len(again) > 0 {
		t.Errorf("told again: %+v", again)
	}
}

// A file that was looked at in the tick in which it was written may have been
// written to once more in that tick: the next time it is taken for changed.
func TestAFileSeenAsItWasWrittenIsNotTrusted(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "f"), []byte("text"), 0o644))
	tr, err := newTree(Rule{Service: "web", Action: Sync, Path: root, Target: "/"}, func(string, uint64) bool { return false })
	must(t, err)
	kernel.Eventually(t, time.Minute, "the clock moves on", func() bool {
		tr.look([]string{"f"})
		return !tr.known["f"].racy
	})
	if found := tr.look([]string{"f"}); len(found) > 0 {
		t.Errorf("nothing happened: told of %+v", found)
	}
	seen := tr.known["f"]
	seen.racy = true
	tr.known["f"] = seen
	if found := tr.look([]string{"f"}); len(found) != 1 {
		t.Errorf("it may have changed: told of %+v", found)
	}
	if found := tr.look([]string{"f"}); len(found) > 0 {
		t.Errorf("told again: %+v", found)
	}
}

// What a batch means for services is decided by their rules alone.
func TestDecisions(t *testing.T) {
	rules := []Rule{
		{Service: "web", Action: Sync, Path: "/p/src", Target: "/app"},
		{Service: "web", Action: Rebuild, Path: "/p/go.mod"},
		{Service: "api", Action: SyncRestart, Path: "/p/src", Target: "/srv"},
		{Service: "api", Action: SyncExec, Path: "/p/db", Target: "/db"},
		{Service: "db", Action: Restart, Path: "/p/conf"},
	}
	a := []Change{{Path: "a"}}
	for name, c := range map[string]struct {
		found map[int][]Change
		want  string
	}{
		"nothing":                  {nil, ""},
		"a file for two services":  {map[int][]Change{0: a, 2: a}, "web /app/a; api /srv/a restart; "},
		"a rebuild takes it all":   {map[int][]Change{0: a, 1: a}, "web rebuild; "},
		"sync, exec and restart":   {map[int][]Change{2: a, 3: a}, "api /srv/a /db/a exec restart; "},
		"restart alone":            {map[int][]Change{4: a}, "db restart; "},
		"a file that went":         {map[int][]Change{0: {{Path: "b", Gone: true}}}, "web -/app/b; "},
		"a rule of a single file":  {map[int][]Change{3: {{Path: "."}}}, "api /db exec; "},
		"rebuild before a restart": {map[int][]Change{1: a, 4: a}, "web rebuild; db restart; "},
	} {
		if got := text(Decide(rules, c.found)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func text(tasks []Task) string {
	var b strings.Builder
	for _, t := range tasks {
		b.WriteString(t.Service)
		for _, f := range t.Files {
			b.WriteString(map[bool]string{true: " -", false: " "}[f.Gone] + f.To)
		}
		for range t.Exec {
			b.WriteString(" exec")
		}
		if t.Restart {
			b.WriteString(" restart")
		}
		if t.Rebuild {
			b.WriteString(" rebuild")
		}
		b.WriteString("; ")
	}
	return b.String()
}
