package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// MaxFile is the most bytes that a secret or config may hold: they are shown
// from memory.
const MaxFile = 1 << 20

// A FileKind is one of the two kinds of files that containers are handed.
type FileKind string

// The kinds.
const (
	Secret FileKind = "secret"
	Config FileKind = "config"
)

// ErrNoFile means that the store has no secret or config of that name.
var ErrNoFile = errors.New("no such file in the store")

// A KeptFile is a secret or config of the local store; its content is told to
// nobody but containers.
type KeptFile struct {
	Name    string
	Changed time.Time
	Size    int64
}

// Kept is the local store of what compose files call external: one file each,
// mode 0600, that belongs to no project.
type Kept struct{ e *Engine }

// Kept returns this host's store of external secrets and configs.
func (e *Engine) Kept() Kept { return Kept{e} }

func (k Kept) path(kind FileKind, name string) (string, error) {
	if name == "" || len(name) > 64 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || name[0] == '.' {
		return "", fmt.Errorf("%s %.80q: not a name: use at most 64 letters, digits, dots, dashes and underscores", kind, name)
	}
	return filepath.Join(k.e.layout.Secrets(), prefix(kind)+name), nil
}

func prefix(kind FileKind) string { return "external." + string(kind) + "." }

// Put keeps a content under a name. One that is there is only replaced when
// asked for.
func (k Kept) Put(kind FileKind, name string, content []byte, replace bool) error {
	path, err := k.path(kind, name)
	if err != nil {
		return err
	}
	if len(content) > MaxFile {
		return fmt.Errorf("create %s %s: more than %d KiB: put it in a volume instead", kind, name, MaxFile>>10)
	}
	if _, err := os.Lstat(path); err == nil && !replace {
		return fmt.Errorf("create %s %s: there is one of that name; --replace replaces it", kind, name)
	}
	if err := os.MkdirAll(k.e.layout.Secrets(), 0o700); err != nil {
		return fmt.Errorf("create %s %s: %w", kind, name, err)
	}
	if err := store.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("create %s %s: %w", kind, name, err)
	}
	return nil
}

// Get tells of one.
func (k Kept) Get(kind FileKind, name string) (KeptFile, error) {
	path, err := k.path(kind, name)
	if err != nil {
		return KeptFile{}, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return KeptFile{}, fmt.Errorf("%s %s: %w", kind, name, ErrNoFile)
	}
	return KeptFile{Name: name, Changed: time.Unix(st.Mtim.Unix()).UTC(), Size: st.Size}, nil
}

// List tells of all of a kind, by name.
func (k Kept) List(kind FileKind) ([]KeptFile, error) {
	entries, err := os.ReadDir(k.e.layout.Secrets())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list %ss: %w", kind, err)
	}
	var all []KeptFile
	for _, e := range entries {
		if name, ok := strings.CutPrefix(e.Name(), prefix(kind)); ok {
			if f, err := k.Get(kind, name); err == nil {
				all = append(all, f)
			}
		}
	}
	return all, nil
}

// Remove deletes one that no container has.
func (k Kept) Remove(kind FileKind, name string) error {
	path, err := k.path(kind, name)
	if err != nil {
		return err
	}
	if _, err := k.Get(kind, name); err != nil {
		return err
	}
	if who := k.e.fileUsers()[filepath.Base(path)]; who != "" {
		return fmt.Errorf("remove %s %s: in use by container %s", kind, name, who)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove %s %s: %w", kind, name, err)
	}
	return nil
}

// fileUsers names a container for each content of data/secrets that one has.
func (e *Engine) fileUsers() map[string]string {
	users := make(map[string]string)
	_ = e.eachContainer(func(c *engine.Container) bool {
		for _, f := range c.Spec.Files {
			users[f.Key] = c.Name
		}
		return true
	})
	return users
}

// forgetFiles deletes the contents of a project's secrets and configs that no
// container has; an empty project means all projects'. What was put in the
// store by hand stays. It tells the names of what it deleted, or with dry would.
func (e *Engine) forgetFiles(project string, dry bool) ([]string, error) {
	entries, err := os.ReadDir(e.layout.Secrets())
	if errors.Is(err, os.ErrNotExist) || len(entries) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("forget secrets: %w", err)
	}
	users := e.fileUsers()
	var gone []string
	for _, f := range entries {
		owner, _, ok := strings.Cut(f.Name(), ".")
		if !ok || owner == "" || owner == "external" || project != "" && owner != project || users[f.Name()] != "" {
			continue
		}
		gone = append(gone, f.Name())
		if dry {
			continue
		}
		if err := os.Remove(filepath.Join(e.layout.Secrets(), f.Name())); err != nil {
			return gone, fmt.Errorf("forget secrets: %w", err)
		}
	}
	return gone, nil
}
