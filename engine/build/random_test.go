package build_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build"
)

// rounds is how many random cases are tried: all of them with DAVIT_LONG.
func rounds(n int) int {
	if os.Getenv("DAVIT_LONG") != "" {
		return n
	}
	return max(n/10, 1)
}

// A meadow is a directory that is changed at random.
type meadow struct {
	t   *testing.T
	r   *rand.Rand
	dir string
}

func (m *meadow) name() string {
	names := []string{"a", "b", "c.txt", "d.md", "e.tmp", "sub", "lib", "x", "passwd"}
	parts := make([]string, 1+m.r.IntN(3))
	for i := range parts {
		parts[i] = names[m.r.IntN(len(names))]
	}
	return filepath.Join(m.dir, filepath.Join(parts...))
}

// change does one thing to the tree; what cannot be done is left.
func (m *meadow) change() {
	p := m.name()
	if m.r.IntN(4) > 0 {
		_ = os.MkdirAll(filepath.Dir(p), 0o755)
	}
	switch m.r.IntN(12) {
	case 0, 1, 2, 3:
		_ = os.WriteFile(p, []byte(fmt.Sprint(m.r.IntN(1000))), 0o644)
	case 4:
		_ = os.RemoveAll(p)
	case 5:
		_ = os.Chmod(p, fs.FileMode(0o400+m.r.IntN(0o400)))
	case 6:
		_ = os.Symlink([]string{"a", "../b", "/etc/passwd", "nowhere"}[m.r.IntN(4)], p)
	case 7:
		_ = os.Link(m.name(), p)
	case 8:
		_ = os.Mkdir(p, 0o711)
	case 9:
		_ = unix.Lsetxattr(p, "user.note", []byte(fmt.Sprint(m.r.IntN(5))), 0)
	case 10:
		_ = os.Rename(p, m.name())
	case 11:
		_ = os.WriteFile(p, []byte(strings.Repeat("long", 1+m.r.IntN(30000))), 0o755)
	}
}

// picture describes a tree: types, modes, owners, links, content, extended
// attributes, and which names share an inode.
func picture(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		fmt.Fprintf(&out, "%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %x %d.%09d", sha256.Sum256(b), st.Mtim.Sec, st.Mtim.Nsec)
			if st.Nlink > 1 {
				if first, ok := inodes[st.Ino]; ok {
					fmt.Fprintf(&out, " is %s", first)
				} else {
					inodes[st.Ino] = rel
				}
			}
		case d.Type() == fs.ModeSymlink:
			to, _ := os.Readlink(p)
			fmt.Fprintf(&out, " -> %s", to)
		}
		buf := make([]byte, 64)
		if n, err := unix.Lgetxattr(p, "user.note", buf); err == nil {
			fmt.Fprintf(&out, " note %s", buf[:n])
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A copy by way of what the last one left must give what a whole copy gives.
func TestCopyByChangesIsAWholeCopy(t *testing.T) {
	h := newCorpus(t)
	for seed := range uint64(rounds(60)) {
		m := &meadow{t, rand.New(rand.NewPCG(seed, 7)), t.TempDir()}
		dockerfile := []string{
			"FROM scratch\nCOPY . /d/\n",
			"FROM busybox\nCOPY . /\n",
			"FROM busybox\nCOPY --chown=5:6 . /etc\n",
			"FROM scratch\nWORKDIR /w\nCOPY --exclude=*.tmp . .\n",
			"FROM busybox\nCOPY --chmod=u=rwX,go=rX . /d\n",
		}[seed%5]
		deltas := 0
		for step := range 30 {
			for range 1 + m.r.IntN(4) {
				m.change()
			}
			req := build.Request{Context: m.dir, Inline: dockerfile}
			fast, _, err := h.build(t, req)
			req.NoCache = true
			whole, _, werr := h.build(t, req)
			if err != nil || werr != nil {
				if fmt.Sprint(err != nil) != fmt.Sprint(werr != nil) {
					t.Fatalf("seed %d step %d: %v; whole: %v", seed, step, err, werr)
				}
				continue
			}
			if len(fast.Layers) > len(whole.Layers) {
				deltas++
			}
			a, b := picture(t, h.merged(t, fast.Layers)), picture(t, h.merged(t, whole.Layers))
			if a != b {
				t.Fatalf("seed %d step %d, %s: trees differ\n%s", seed, step, dockerfile, difference(a, b))
			}
			if step%5 == 4 {
				h.compareFlat(t, fast.Layers, whole.Layers)
			}
			if t.Failed() {
				t.Fatalf("seed %d step %d, %s", seed, step, dockerfile)
			}
		}
		if deltas == 0 && seed%5 == 0 {
			t.Errorf("seed %d: no copy was made by changes", seed)
		}
	}
}

// compareFlat compares what leaves this host of a copy that was made by changes
// with a whole one: as many layers, the same tree, and nothing in the archive
// that was changed away.
func (h *corpus) compareFlat(t *testing.T, fast, whole []string) {
	t.Helper()
	flat, err := h.layers.Flatten(t.Context(), fast)
	if err != nil {
		t.Fatal(err)
	}
	if len(flat) != len(whole) {
		t.Errorf("%d layers flattened to %d, not %d", len(fast), len(flat), len(whole))
	}
	if a, b := picture(t, h.merged(t, flat)), picture(t, h.merged(t, whole)); a != b {
		t.Errorf("flattened (by changes) and whole trees differ\n%s", difference(a, b))
	}
	if a, b := h.archived(t, flat[len(flat)-1]), h.archived(t, whole[len(whole)-1]); a != b {
		t.Errorf("flattened (by changes) and whole archives differ\n%s", difference(a, b))
	}
}

// archived are the names and sizes in a layer's tar.
func (h *corpus) archived(t *testing.T, id string) string {
	t.Helper()
	var b bytes.Buffer
	if err := h.layers.Tar(t.Context(), id, &b); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for r := tar.NewReader(&b); ; {
		head, err := r.Next()
		if err == io.EOF {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&out, head.Name, head.Typeflag, head.Size, head.Linkname)
	}
}

func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out strings.Builder
	for _, l := range x {
		if !slices.Contains(y, l) {
			fmt.Fprintln(&out, "by changes:", l)
		}
	}
	for _, l := range y {
		if !slices.Contains(x, l) {
			fmt.Fprintln(&out, "whole:     ", l)
		}
	}
	return out.String()
}

// What .dockerignore excludes, by the rules of docker's library applied to one
// path at a time, is in no image; and nothing else is missing.
func TestNoIgnoredFileIsInAnImage(t *testing.T) {
	h := newCorpus(t)
	words := []string{"a", "b", "c.txt", "d.md", "e.tmp", "sub", "lib", "x", "*", "**", "*.txt", "?", "[a-c]", "s*"}
	for seed := range uint64(rounds(300)) {
		m := &meadow{t, rand.New(rand.NewPCG(seed, 11)), t.TempDir()}
		for range 40 {
			_ = os.MkdirAll(filepath.Dir(m.name()), 0o755)
			p := m.name()
			_ = os.MkdirAll(filepath.Dir(p), 0o755)
			_ = os.WriteFile(p, []byte("x"), 0o644)
		}
		var patterns []string
		for range 1 + m.r.IntN(4) {
			p := words[m.r.IntN(len(words))]
			for range m.r.IntN(3) {
				p += "/" + words[m.r.IntN(len(words))]
			}
			if m.r.IntN(3) == 0 {
				p = "!" + p
			}
			patterns = append(patterns, p)
		}
		if err := os.WriteFile(filepath.Join(m.dir, ".dockerignore"), []byte(strings.Join(patterns, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		how := []string{"COPY . /d/", "COPY --exclude=nosuch . /d/", "ADD . /d/", "COPY --link . /d/"}[seed%4]
		res, _, err := h.build(t, build.Request{Context: m.dir, Inline: "FROM scratch\n" + how + "\n"})
		if err != nil {
			t.Fatalf("seed %d %q: %v", seed, patterns, err)
		}
		compareIgnored(t, m.dir, h.merged(t, res.Layers), patterns)
		if t.Failed() {
			t.Fatalf("seed %d, %s, patterns %q", seed, how, patterns)
		}
	}
}

// excludes asks the library about a path and the directories above it, as
// docker does when it sends a context.
func excludes(pm *patternmatcher.PatternMatcher, rel string) (bool, error) {
	var info patternmatcher.MatchInfo
	var excluded bool
	var err error
	for i, c := range rel + "/" {
		if c != '/' {
			continue
		}
		if excluded, info, err = pm.MatchesUsingParentResults(rel[:i], info); err != nil {
			return false, err
		}
	}
	return excluded, nil
}

func compareIgnored(t *testing.T, dir, root string, patterns []string) {
	t.Helper()
	pm, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		excluded, err := excludes(pm, rel)
		if err != nil {
			return err
		}
		_, serr := os.Lstat(filepath.Join(root, "d", rel))
		if there := serr == nil; there == excluded {
			t.Errorf("%s: excluded %v, in the image %v", rel, excluded, there)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
