package resolver

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files keeps records as JSON files, as the engine's store does.
type files struct{ dir string }

func newFiles(t testing.TB) *files { return &files{t.TempDir()} }

func (f *files) path(key string) string { return filepath.Join(f.dir, key+".json") }

func (f *files) Read(key string, v any) error {
	b, err := os.ReadFile(f.path(key))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func (f *files) Write(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p := f.path(key)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(p), ".tmp-"+filepath.Base(p))
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, p)
}

func (f *files) Remove(key string) error {
	if err := os.Remove(f.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f *files) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(f.dir, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			out = append(out, strings.TrimSuffix(e.Name(), ".json"))
		}
	}
	return out, err
}

func (f *files) Lock(string) (func(), error) { return func() {}, nil }

func (f *files) Dir(key string) string { return filepath.Join(f.dir, key) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
