package local

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// stocked is an engine with one image, pulled or loaded, so to speak.
func stocked(t *testing.T) (*Engine, engine.Image) {
	t.Helper()
	l, err := store.Locate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e := Open(l)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: 5}); err != nil {
		t.Fatal(err)
	}
	_, werr := w.Write([]byte("hello"))
	if err := errors.Join(werr, w.Close()); err != nil {
		t.Fatal(err)
	}
	img, err := e.images.Import(t.Context(), &b, "shop:v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return e, img
}

// TestCheck damages one thing at a time. The check says so and, where it may,
// repairs it; the next check finds nothing more than what only a pull brings.
func TestCheck(t *testing.T) {
	spoil := func(path string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := os.WriteFile(path, []byte(`{"version":1,"crc32":7,"body":{}}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		damage   func(t *testing.T, e *Engine, img engine.Image)
		what     string // is wrong
		repaired string // and what was done
		left     string // what a second check still says; empty: nothing
	}{
		"nothing": {func(*testing.T, *Engine, engine.Image) {}, "", "", ""},
		"a layer's file": {func(t *testing.T, e *Engine, img engine.Image) {
			spoil(filepath.Join(e.layout.LayerFS(img.Layers[0]), "f"))(t)
		}, "layer", "removed; pull or load its image again", "layers of it are missing"},
		"a layer's record": {func(t *testing.T, e *Engine, img engine.Image) {
			spoil(filepath.Join(e.layout.Layer(img.Layers[0]), "meta.json"))(t)
		}, "checksum", "removed; pull or load its image again", "layers of it are missing"},
		"an image's record": {func(t *testing.T, e *Engine, img engine.Image) {
			spoil(filepath.Join(e.layout.Images(), "ids", strings.TrimPrefix(img.ID, "sha256:")))(t)
		}, "checksum", "removed; pull, load or build it again", ""},
		"an image's record with one before it": {func(t *testing.T, e *Engine, img engine.Image) {
			path := filepath.Join(e.layout.Images(), "ids", strings.TrimPrefix(img.ID, "sha256:"))
			if err := os.Link(path, path+"~"); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			spoil(path)(t)
		}, "checksum", "the generation before it was put back", ""},
		"a name's record": {func(t *testing.T, e *Engine, _ engine.Image) {
			all, err := filepath.Glob(filepath.Join(e.layout.Images(), "names", "*"))
			if err != nil || len(all) != 1 {
				t.Fatal(all, err)
			}
			spoil(all[0])(t)
		}, "checksum", "removed", ""},
		"a record of the build cache": {func(t *testing.T, e *Engine, _ engine.Image) {
			path := filepath.Join(e.layout.Cache(), "keys", "k")
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), store.Write(path, "sha-that-is-nowhere")); err != nil {
				t.Fatal(err)
			}
		}, "layer sha-that-is- is missing", "removed; the step will run again", ""},
		"what a dead process left": {func(t *testing.T, e *Engine, _ engine.Image) {
			if err := os.MkdirAll(filepath.Join(e.layout.Ingest(), "dead", "fs"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "leftovers", "removed", ""},
		"a volume's content": {func(t *testing.T, e *Engine, _ engine.Image) {
			if _, err := e.volumes.Create(t.Context(), engine.Volume{Name: "data"}); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(e.layout.VolumeData("data")); err != nil {
				t.Fatal(err)
			}
		}, "volume data: it has no content", "", "volume data: it has no content"},
	} {
		t.Run(name, func(t *testing.T) {
			e, img := stocked(t)
			c.damage(t, e, img)
			found, err := e.Check(t.Context(), false)
			if err != nil || !tells(found, c.what, "") {
				t.Errorf("without repair: %v (%v), want %q", found, err, c.what)
			}
			found, err = e.Check(t.Context(), true)
			if err != nil || !tells(found, c.what, c.repaired) {
				t.Errorf("with repair: %v (%v), want %q, %q", found, err, c.what, c.repaired)
			}
			found, err = e.Check(t.Context(), true)
			if err != nil || !tells(found, c.left, "") || c.left == "" && len(found) > 0 {
				t.Errorf("once more: %v (%v), want %q", found, err, c.left)
			}
		})
	}
}

// tells says whether some finding has these words; no words want no finding.
func tells(found []Damage, what, repaired string) bool {
	if what == "" {
		return len(found) == 0
	}
	for _, d := range found {
		if strings.Contains(d.What, what) && d.Repaired == repaired {
			return true
		}
	}
	return false
}
