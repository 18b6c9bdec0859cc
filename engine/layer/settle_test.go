package layer

import (
	"context"
	"os"
	"testing"
)

// TestRemovalBesideSettling removes layers while another process records that
// they have reached the disk, and a third counts them: nothing of them is left,
// and nobody meets an error.
func TestRemovalBesideSettling(t *testing.T) {
	s := testStore(t)
	l := s.layout
	for round := range 10 {
		var made []Meta
		for range 8 {
			d, err := s.NewDraft()
			if err != nil {
				t.Fatal(err)
			}
			m, err := d.Commit("layer-" + random())
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, m)
		}
		settled, counted := make(chan error, 1), make(chan bool, 1)
		go func() { settled <- s.RecordSettled(made) }()
		go func() {
			for _, m := range made {
				_, _ = s.Size(m.ID) // of a layer that goes, as system df may meet it
			}
			counted <- true
		}()
		if round%2 == 0 {
			if _, err := s.Collect(context.Background(), func() (map[string]bool, error) { return nil, nil }, false); err != nil {
				t.Error(err)
			}
		} else {
			for _, m := range made {
				if err := s.Remove(m.ID); err != nil {
					t.Error(err)
				}
			}
		}
		if err := <-settled; err != nil {
			t.Error(err)
		}
		<-counted
		for _, dir := range []string{l.Layers(), l.Ingest()} {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Fatalf("round %d: left in %s: %v, %v", round, dir, left, err)
			}
		}
	}
}
