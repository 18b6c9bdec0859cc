package scan

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAFileIsDigestedAsItWasListed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"grows", "shrinks", "turns"} {
		write(name, "before")
	}
	c, err := OpenContext(dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	entries, err := c.Children("")
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	turns, err := c.Digest(entries[2])
	if err != nil {
		t.Fatal(err)
	}
	write("grows", "before and after")
	write("shrinks", "be")
	write("turns", "after!")
	if d, err := c.Digest(entries[0]); err != nil || d != turns {
		t.Errorf("a file that grew: %s, %v; want %s, as it was", d, err, turns)
	}
	if _, err := c.Digest(entries[1]); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that shrank: %v", err)
	}
	if d, err := c.Digest(entries[2]); err != nil || d != turns {
		t.Errorf("digested again: %s, %v; want what is known, %s", d, err, turns)
	}
	f, err := c.Open("turns")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c.Unchanged(entries[2], f) {
		t.Error("a file that was written to passes for unchanged")
	}
}

// However long it takes to read a file: one that was written to just before is
// not remembered, for it may have been written to again since.
func TestAFileThatMayHaveChangedUnseenIsNotRemembered(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	e, written := entry("f", st), time.Unix(st.Ctim.Unix())
	for after, want := range map[time.Duration]bool{0: false, tick: false, 2 * tick: true} {
		c := &StatCache{known: map[string]stamped{}}
		c.put(e, f, "digest", written.Add(after))
		if _, ok := c.get(e); ok != want {
			t.Errorf("read %v after it was written: remembered %v", after, ok)
		}
	}
}
