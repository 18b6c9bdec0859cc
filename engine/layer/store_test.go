package layer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

func TestLayerNames(t *testing.T) {
	s := testStore(t)
	for _, id := range []string{"", "..", ".", "../x", "a/b", "a", "-x", "a\x00b", string(bytes.Repeat([]byte("a"), 129))} {
		if ValidID(id) || s.Has(id) || s.Remove(id) == nil {
			t.Errorf("%q passes as a layer id", id)
		}
	}
}

func TestDraftBecomesLayer(t *testing.T) {
	s := testStore(t)
	d, err := s.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	if err := os.WriteFile(filepath.Join(d.FS, "f"), []byte("built"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(d.FS, "gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	m, err := d.Commit("abcd")
	if err != nil {
		t.Fatal(err)
	}
	if m.BootID == "" || tell(s.FS("abcd"), "f") != "file built" {
		t.Errorf("committed layer %+v holds %s", m, tell(s.FS("abcd"), "f"))
	}
	if n, err := s.Size("abcd"); n != 5 || err != nil {
		t.Errorf("size %d (%v), want 5", n, err)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if m, err = s.Meta("abcd"); err != nil || m.BootID != "" {
		t.Errorf("after settling: %+v (%v)", m, err)
	}
	var out bytes.Buffer
	if err := s.Tar(t.Context(), "abcd", &out); err != nil {
		t.Fatal(err)
	}
	again, err := s.Unpack(t.Context(), &out)
	if err != nil || tell(s.FS(again.ID), "gone") != "whiteout" {
		t.Errorf("unpacked again: %s (%v)", tell(s.FS(again.ID), "gone"), err)
	}
}

// TestUnsyncedLayerOfAnotherBoot: after a power cut, what was not known to be
// on disk is not believed, and can be made again.
func TestUnsyncedLayerOfAnotherBoot(t *testing.T) {
	s := testStore(t)
	commit := func(content string) {
		d, err := s.NewDraft()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.FS, "f"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Commit("abcd"); err != nil {
			t.Fatal(err)
		}
	}
	commit("old")
	m, _ := s.Meta("abcd")
	m.BootID = "another"
	if err := store.WriteUnsynced(s.metaPath("abcd"), m); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Meta("abcd"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v, want %v", err, ErrNotFound)
	}
	commit("new")
	if got := tell(s.FS("abcd"), "f"); got != "file new" {
		t.Errorf("the layer holds %s", got)
	}
}

func TestCollect(t *testing.T) {
	s := testStore(t)
	kept, _ := unpack(t, s, file("f", "kept"))
	lost, _ := unpack(t, s, file("f", "lost"))
	dead := filepath.Join(s.layout.Ingest(), "dead", "fs")
	must(t, os.MkdirAll(dead, 0o700))
	living, err := s.NewDraft()
	must(t, err)
	keep := func() (map[string]bool, error) { return map[string]bool{kept.ID: true}, nil }

	hold, err := s.Hold(t.Context())
	must(t, err)
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("who holds the content did not sweep: %v", err)
	}
	must(t, os.MkdirAll(dead, 0o700))
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Collect(short, keep, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("collected while somebody held the content: %v", err)
	}
	hold.Release()

	if f, err := s.Collect(t.Context(), keep, true); err != nil || len(f.Layers) != 1 || !s.Has(lost.ID) {
		t.Errorf("dry run: %+v, %v", f, err)
	}
	f, err := s.Collect(t.Context(), keep, false)
	if err != nil || len(f.Layers) != 1 || f.Layers[0] != lost.ID || f.Ingest != 1 || f.Bytes != 4 {
		t.Errorf("collected %+v, %v", f, err)
	}
	if !s.Has(kept.ID) || s.Has(lost.ID) {
		t.Error("the wrong layer is gone")
	}
	if _, err := living.Commit("alive"); err != nil {
		t.Errorf("a living draft was swept away: %v", err)
	}
}

func TestTarDirIsReproducible(t *testing.T) {
	at := t.TempDir()
	for _, n := range []string{"b", "a", "c/z", "c/y"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(at, n)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(at, "a"), filepath.Join(at, "c", "a")); err != nil {
		t.Fatal(err)
	}
	o := TarOptions{Epoch: time.Unix(1000, 0)}
	var one, two bytes.Buffer
	if err := TarDir(t.Context(), at, &one, o); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("cp", "-a", at, at+"2").Run(); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(at + "2")
	if err := os.Chtimes(filepath.Join(at+"2", "b"), time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := TarDir(t.Context(), at+"2", &two, o); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("equal directories gave different archives")
	}
	list := exec.Command("tar", "tvf", "-")
	list.Stdin = &one
	out, err := list.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("c/a link to a")) {
		t.Errorf("tar says %s (%v)", out, err)
	}
}

func BenchmarkUnpack(b *testing.B) {
	small := make([]ent, 0, 5001)
	body := string(bytes.Repeat([]byte("davit "), 700))
	for i := range 5000 {
		if i%50 == 0 {
			small = append(small, dir("d"+string(rune('a'+i/50%26))+string(rune('a'+i/1300))))
		}
		small = append(small, file(small[len(small)-1-i%50].Name+"/f"+string(rune('a'+i%50))+"x", body))
	}
	large := []ent{file("big", string(bytes.Repeat([]byte("davit "), 20<<20)))}
	for name, ents := range map[string][]ent{"5000 files of 4 KiB": small, "one file of 120 MiB": large} {
		t := archive(b, ents...)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(t)))
			for b.Loop() {
				b.StopTimer()
				s := testStore(b)
				b.StartTimer()
				st, err := s.Stage(b.Context(), bytes.NewReader(t))
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				st.Discard()
				b.StartTimer()
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestExcludeSaysThatItWaits: whoever waits for a holder is told, and goes on
// when that is done.
func TestExcludeSaysThatItWaits(t *testing.T) {
	s := testStore(t)
	hold, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Waiting = hold.Release
	lock, err := s.Exclude(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
}
