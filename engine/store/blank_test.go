package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// What a power cut leaves of a file that was never synced is its name.
func TestABlankRecordFallsBackToWhatIsKeptBesideIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	for _, content := range [][]byte{nil, make([]byte, 100)} {
		var got string
		if err := errors.Join(Write(path, "synced"), os.RemoveAll(path+"~"), WriteUnsynced(path, "not")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Read(path, &got); err != nil || got != "synced" {
			t.Errorf("%d bytes: %q, %v", len(content), got, err)
		}
		if err := os.Remove(path + "~"); err != nil {
			t.Fatal(err)
		}
		if err := Read(path, &got); !blank(err) {
			t.Errorf("%d bytes and nothing beside it: %v", len(content), err)
		}
	}
}

func TestAContainerWithABlankStateIsCreated(t *testing.T) {
	l := Layout{Data: t.TempDir()}
	c := &engine.Container{ID: "ab", Project: "p"}
	if err := errors.Join(l.SaveContainer(c), l.SaveState("p", "ab", &engine.State{Status: engine.Running}, false)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(l.Container("p", "ab"), "state.json"), 0); err != nil {
		t.Fatal(err)
	}
	if s, err := l.LoadState("p", "ab"); err != nil || s.Status != engine.Created {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.WriteFile(filepath.Join(l.Container("p", "ab"), "container.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Its record was synced: that it is blank is damage, and not that it never was.
	if _, err := l.LoadContainer("p", "ab"); errors.Is(err, ErrNotFound) || err == nil {
		t.Errorf("a blank record: %v", err)
	}
}

func TestWritersOfOneRecordDoNotMeet(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record.json")
	for _, left := range []func(string) error{
		func(p string) error { return os.WriteFile(p, []byte("half a rec"), 0o600) },
		func(p string) error { return os.Mkdir(p, 0o700) },
		func(p string) error { return os.Symlink("/nowhere", p) },
		func(p string) error { return unix.Mkfifo(p, 0o600) },
	} {
		if err := left(filepath.Join(dir, ".record.json.tmp")); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := WriteUnsynced(path, strings.Repeat("x", 1000*i)); err != nil {
					t.Error(err)
				}
				var got string
				if err := Read(path, &got); err != nil || len(got)%1000 != 0 {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
			})
		}
		wg.Wait()
	}
	if names, _ := filepath.Glob(dir + "/.*"); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}
