package scan

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
