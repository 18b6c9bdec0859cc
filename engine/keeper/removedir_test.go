package keeper

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// What is written into a container's directory while it is emptied does not keep
// it from being removed.
func TestRemovedBesideAWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	for round := range 50 {
		if err := os.MkdirAll(filepath.Join(dir, "upper/fs"), 0o700); err != nil {
			t.Fatal(err)
		}
		written := make(chan bool)
		go func() {
			for i := range 5 { // none of them makes the directory anew
				_ = os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600)
			}
			close(written)
		}()
		err := removeDir(dir)
		<-written
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}
