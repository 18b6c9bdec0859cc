package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMakeTreeIsWholeOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trees", "one")
	broken := errors.New("broken")
	write := func(text string, err error) func(string) error {
		return func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o600), err)
		}
	}
	if err := MakeTree(path, write("half", broken)); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	for _, text := range []string{"first", "second"} {
		if err := MakeTree(path, write(text, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(b) != "first" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestContained(t *testing.T) {
	for name, c := range map[string]struct {
		links map[string]string
		says  string
	}{
		"none":              {},
		"inside":            {links: map[string]string{"a": "file", "sub/b": "../file", "gone": "nothing"}},
		"absolute":          {links: map[string]string{"a": "/etc/shadow"}, says: "the link a leads out"},
		"upwards":           {links: map[string]string{"sub/a": "../../../etc"}, says: "the link sub/a leads out"},
		"through a link":    {links: map[string]string{"d": "sub", "sub/up": "..", "x": "d/up/../secret"}, says: "the link x leads out"},
		"gone, but outside": {links: map[string]string{"a": "../nothing"}, says: "the link a leads out"},
	} {
		dir := filepath.Join(t.TempDir(), "in")
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "sub"), 0o700), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		for link, to := range c.links {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		if err := Contained(dir); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Contained(dir); err == nil {
		t.Error("a pipe was taken for a file")
	}
}
