package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/davit-run/davit/engine/store"
)

// keySize is the length of the key behind secrets' digests, in bytes.
const keySize = 32

// secretKey is the key with which this host digests secrets, or nil while
// there is none: then nothing was made of a secret yet either, and a plan
// compares with nothing. Only keepKey makes one.
func secretKey(layout store.Layout) ([]byte, error) {
	key, err := os.ReadFile(keyPath(layout))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("key of secrets: %w", err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("key of secrets %s: damaged: it has %d bytes, not %d", keyPath(layout), len(key), keySize)
	}
	return key, nil
}

// keepKey makes the key of secrets on first use.
func keepKey(layout store.Layout) error {
	if _, err := os.Lstat(keyPath(layout)); err == nil {
		return nil
	}
	if err := os.MkdirAll(layout.Secrets(), 0o700); err != nil {
		return err
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails since Go 1.24
	return store.WriteFile(keyPath(layout), key, 0o600)
}

func keyPath(layout store.Layout) string { return filepath.Join(layout.Secrets(), ".key") }

// checkName refuses what no project may be called.
func checkName(name string) error {
	for i, r := range name {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || i > 0 && (r == '_' || r == '-') {
			continue
		}
		return fmt.Errorf("invalid project name %q: it must consist only of lowercase letters, digits, hyphens and underscores, and start with a letter or digit", name)
	}
	return nil
}
