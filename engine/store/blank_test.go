package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

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
