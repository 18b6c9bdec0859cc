package layer

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSwappedWhileUnpacking: somebody swaps a layer's directory for a link to
// another one, to and fro, while the layer is unpacked (CVE-2026-17106's rule).
// The layer may fail, but nothing is made, changed or taken away there.
func TestSwappedWhileUnpacking(t *testing.T) {
	rounds := 4
	if os.Getenv("DAVIT_LONG") != "" {
		rounds = 200
	}
	s := testStore(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "f0"), []byte("alive"), 0o640); err != nil {
		t.Fatal(err)
	}
	before := look(t, outside, false)
	var ents []ent
	for i := range 100 { // d is entered anew each time: the other directory is in between
		ents = append(ents, dir("d"), file(fmt.Sprintf("d/f%d", i), "hostile"), dir("e"), sym("e/l", "../d"), file(fmt.Sprintf("e/l/g%d", i), "hostile"))
	}
	b := archive(t, ents...)
	var swaps atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			dirs, _ := filepath.Glob(filepath.Join(s.layout.Ingest(), "*", "fs", "d"))
			for _, d := range dirs {
				if os.Symlink(outside, d+".link") == nil && unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, d+".link", unix.RENAME_EXCHANGE) == nil {
					swaps.Add(1)
				}
				_ = os.Remove(d + ".link") // the link, or nothing: a full directory stays
			}
		}
	}()
	for range rounds {
		if st, err := s.Stage(t.Context(), bytes.NewReader(b)); err == nil {
			st.Discard()
		}
		if now := look(t, outside, false); now != before {
			t.Fatalf("outside there is %s, there was %s", now, before)
		}
	}
	close(stop)
	<-done
	t.Logf("%d swaps", swaps.Load())
}
