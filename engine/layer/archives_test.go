package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// ways are the kinds of entry that an archive can put at a name.
var ways = map[string]func(name string) ent{
	"file":      func(n string) ent { return file(n, "hostile") },
	"directory": dir,
	"link":      func(n string) ent { return sym(n, "/canary") },
	"hard link": func(n string) ent { return hard(n, "mine") },
	"device":    func(n string) ent { return chr(n, 1, 3) },
	"FIFO":      func(n string) ent { return ent{Header: tar.Header{Typeflag: tar.TypeFifo, Name: n, Mode: 0o666}} },
}

// climbs are names that lead out of the root.
func climbs() []breakout {
	var all []breakout
	for _, name := range []string{"../canary", "../../canary", "/../canary", "a/../../canary", "./../canary", "a/./../../canary", "..//canary", "a/b/../../../canary", "..", "a/.."} {
		for kind, make := range ways {
			all = append(all, breakout{name: kind + " at " + name, ents: []ent{file("mine", "x"), make(name)}, err: "leaves its directory"})
		}
	}
	return all
}

// detours put entries behind links that lead out of the root, or replace the
// link in between. What comes of them lies inside the root, or is an error.
func detours(outside string) []breakout {
	var all []breakout
	for _, target := range []string{"/", "..", "../..", "../../../../../../../../..", outside, "/proc/self/root" + outside, "/proc/self/cwd", "/proc/thread-self/fd/3", "a/../../.."} {
		for kind, make := range ways {
			all = append(all, breakout{name: kind + " behind a link to " + target, ents: []ent{file("mine", "x"), dir("a"), sym("out", target), make("out/canary")}})
		}
		all = append(all,
			breakout{name: "whiteout behind a link to " + target, ents: []ent{dir("a"), sym("out", target), file("out/.wh.canary", "")}},
			breakout{name: "opaque mark behind a link to " + target, ents: []ent{dir("a"), sym("out", target), file("out/.wh..wh..opq", "")}},
			breakout{name: "hard link from behind a link to " + target, ents: []ent{dir("a"), sym("out", target), hard("mine", "out/canary"), file("mine", "hostile")}},
			breakout{name: "mode through a link to " + target, ents: []ent{dir("a"), sym("out", target), hard("again", "out").with(func(h *tar.Header) { h.Mode = 0o777 })}},
		)
	}
	return all
}

// TestHostileArchives unpacks more than 150 archives that were made to do
// harm, in a process of its own: no byte outside the root, all in less than a
// minute and 256 MiB, and the disk as it was before.
func TestHostileArchives(t *testing.T) {
	if os.Getenv("DAVIT_HOSTILE") != "" {
		unpackHostile(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHostileArchives$", "-test.v")
	cmd.Env = append(os.Environ(), "DAVIT_HOSTILE=1")
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(begun); took > kernel.Promptly(time.Minute) {
		t.Errorf("it took %v", took)
	}
	var cases, rss int // KiB
	_, told, _ := strings.Cut(string(out), "hostile archives: ")
	if _, err := fmt.Sscanf(told, "%d\nVmHWM: %d kB", &cases, &rss); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if rss > 256<<10 {
		t.Errorf("it took %d MiB of memory", rss>>10)
	}
	t.Logf("%d cases, %v, %d MiB", cases, time.Since(begun).Round(time.Millisecond), rss>>10)
}

func unpackHostile(t *testing.T) {
	s := testStore(t)
	outside := filepath.Join(filepath.Dir(s.layout.Data), "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "canary"), []byte("alive"), 0o640); err != nil {
		t.Fatal(err)
	}
	before := look(t, outside, false)
	n := 0
	try := func(name string, b []byte, limits Limits, want string) {
		n++
		s.Limits = limits
		m, err := s.Unpack(t.Context(), bytes.NewReader(b))
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error is %v, want one about %q", name, err, want)
		}
		if err == nil {
			inside(t, name, s.FS(m.ID))
			if err := s.Remove(m.ID); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if now := look(t, outside, false); now != before {
			t.Fatalf("%s: outside the root there is %s, there was %s", name, now, before)
		}
		if left := look(t, s.layout.Data, true); left != "" {
			t.Fatalf("%s: left on the disk: %s", name, left)
		}
	}
	for _, c := range append(climbs(), detours(outside)...) {
		try(c.name, archive(t, c.ents...), Limits{}, c.err)
	}
	for _, c := range append(breakouts, whiteouts...) {
		try(c.name, archive(t, c.ents...), Limits{}, c.err)
	}
	for _, c := range bombs(t) {
		try(c.name, c.b, c.limits, c.want)
	}
	if n < 150 {
		t.Errorf("only %d archives", n)
	}
	fmt.Printf("hostile archives: %d\n", n)
	// Its peak of memory, proc_pid_status(5): what rusage says begins with that of
	// the process that started this one.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Print(line)
		}
	}
}

// look tells of every file below dir its name, kind, mode, size and content;
// of directories only with others left out.
func look(t *testing.T, dir string, filesOnly bool) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || filesOnly && e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		b, _ := os.ReadFile(path)
		all = append(all, fmt.Sprintf("%s %v %.20q", path, info.Mode(), b))
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

// inside checks that no file of an unpacked layer is a file of elsewhere: none
// has a name outside.
func inside(t *testing.T, name, root string) {
	t.Helper()
	links := map[inode]uint64{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err != nil || e.IsDir() || unix.Lstat(path, &st) != nil {
			return err
		}
		ino := inode{uint64(st.Dev), st.Ino}
		if _, seen := links[ino]; !seen {
			links[ino] = uint64(st.Nlink)
		}
		links[ino]--
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	for ino, left := range links {
		if left != 0 {
			t.Errorf("%s: inode %d has %d names outside the layer", name, ino.ino, left)
		}
	}
}
