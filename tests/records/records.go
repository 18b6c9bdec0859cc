package records

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Files are netdns.Records as JSON files below a directory, written as the
// engine's store does it: to a temporary name, then renamed. Safe for concurrent
// use.
type Files struct {
	Root string

	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

// Path is the file of a record.
func (f *Files) Path(key string) string { return filepath.Join(f.Root, key+".json") }

// Read reads a record into v; an error that is fs.ErrNotExist where there is none.
func (f *Files) Read(key string, v any) error {
	b, err := os.ReadFile(f.Path(key))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// Write writes a record, whole or not at all.
func (f *Files) Write(key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p := f.Path(key)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(p), ".tmp-"+filepath.Base(p))
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, p)
}

// Remove removes a record; one that is not there is no error.
func (f *Files) Remove(key string) error {
	if err := os.Remove(f.Path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List returns the names of the records in a directory.
func (f *Files) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(f.Dir(dir))
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

// Lock locks a name against others in this process.
func (f *Files) Lock(name string) (unlock func(), err error) {
	f.mu.Lock()
	if f.locks == nil {
		f.locks = map[string]*sync.Mutex{}
	}
	m := f.locks[name]
	if m == nil {
		m = &sync.Mutex{}
		f.locks[name] = m
	}
	f.mu.Unlock()
	m.Lock()
	return m.Unlock, nil
}

// Dir is where the records of a key's directory lie.
func (f *Files) Dir(key string) string { return filepath.Join(f.Root, key) }
