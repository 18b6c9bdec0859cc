package filter

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

const (
	// sharedFD is where a container's init finds the collection: the first of
	// the files that libcontainer passes on.
	sharedFD = 3
	// magic begins a collection; a new layout gets a new one.
	magic = "dvfilt01"
	// maxCollection bounds a collection, in bytes; a program takes about 40,000.
	maxCollection = 1 << 20
	headSize      = sha256.Size + 8
)

// A Sharer hands the compiled filters of a run directory to the containers that
// this process starts.
type Sharer struct {
	path string

	mu    sync.Mutex
	file  *os.File // the collection, as it was last seen
	ino   uint64
	have  map[[sha256.Size]byte]bool // what is compiled, or under way, or cannot be
	known map[*configs.Seccomp]bool  // profiles are shared, never changed
	busy  sync.WaitGroup             // compilations under way
}

// NewSharer shares the collection in a run directory.
func NewSharer(run string) *Sharer {
	return &Sharer{path: filepath.Join(run, "filters"), have: map[[sha256.Size]byte]bool{}, known: map[*configs.Seccomp]bool{}}
}

// Files are what to pass to a container's init before any other file: the
// present collection, or nothing, and then it compiles its filter itself. They
// are not the caller's to close.
func (s *Sharer) Files() []*os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st unix.Stat_t
	if unix.Stat(s.path, &st) != nil {
		return nil
	}
	if s.file == nil || st.Ino != s.ino {
		f, err := os.Open(s.path)
		if err != nil {
			return nil
		}
		s.file, s.ino = f, st.Ino // a start may be using the one before
	}
	return []*os.File{s.file}
}

// Want has the filter of a profile compiled, once, for the containers to come.
// It returns at once.
func (s *Sharer) Want(p *configs.Seccomp) {
	if p == nil || p.ListenerPath != "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[p] {
		return
	}
	body, err := json.Marshal(p)
	if err != nil {
		return
	}
	key := sha256.Sum256(body)
	if len(s.known) < 64 { // a profile of a file is a new one each time
		s.known[p] = true
	}
	if s.have[key] {
		return
	}
	s.have[key] = true
	s.busy.Go(func() { _ = s.compile(key, body) })
}

// Wait waits for the filters that are being compiled: a process that ends
// sooner would leave the next one nothing.
func (s *Sharer) Wait() { s.busy.Wait() }

// compile adds the program of a profile to the collection.
func (s *Sharer) compile(key [sha256.Size]byte, profile []byte) error {
	old, err := os.ReadFile(s.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !bytes.HasPrefix(old, []byte(magic)) || len(old) > maxCollection/2 {
		old = []byte(magic)
	}
	entry, err := program(profile)
	if err != nil {
		return err
	}
	if contains(old, entry) {
		return nil
	}
	return replace(s.path, append(append(old, key[:]...), entry...))
}

// contains tells whether a collection has an entry already: another process has
// put it there.
func contains(all, entry []byte) bool {
	for at := len(magic); at+headSize <= len(all); {
		size := int(binary.NativeEndian.Uint32(all[at+sha256.Size:])) + int(binary.NativeEndian.Uint32(all[at+sha256.Size+4:]))
		end := at + headSize + size
		if end > len(all) {
			return false
		}
		if bytes.Equal(all[at+sha256.Size:end], entry) {
			return true
		}
		at = end
	}
	return false
}

// program has a process of its own compile a profile: the calls that are noted
// are then libcontainer's own.
func program(profile []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "filter")
	cmd.Env, cmd.Dir, cmd.Stdin = []string{}, "/", bytes.NewReader(profile)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("compile filter: %w", err)
	}
	const sizes = headSize - sha256.Size
	if len(out) < sizes || len(out) != sizes+int(binary.NativeEndian.Uint32(out))+int(binary.NativeEndian.Uint32(out[4:])) {
		return nil, fmt.Errorf("compile filter: %d bytes make no program", len(out))
	}
	return out, nil
}

// replace writes a file that is there whole or not at all.
func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".filters-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
