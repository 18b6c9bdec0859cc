package journal

import (
	"fmt"
	"os"
	"testing"
)

// Lines run through rotations, and at each of them three writers in turn are
// killed: before the new index is written, before it is renamed, and after. The
// follower who reads along sees each line once, and so does who reads later.
//
// DAVIT_LONG makes it 10 million lines and 50 rotations; by default it is a
// tenth of that.
func TestKilledInsideEachRenameOfALongLog(t *testing.T) {
	lines, rotations := 1_000_000, 5
	if os.Getenv("DAVIT_LONG") != "" {
		lines, rotations = 10_000_000, 50
	}
	dir := t.TempDir()
	// The rest of the lines fill the last generation, never quite.
	env := []string{fmt.Sprint("JOURNAL_SIZE=", lines/rotations*98), "JOURNAL_FILES=1000"}
	r, _ := producer(t, "burst", fmt.Sprint("JOURNAL_LINES=", lines))
	got := follow(t, dir)
	kills := 0
	for range rotations + 1 { // the first index is made by a rename, too
		for _, point := range []string{"index made", "index written", "index renamed"} {
			if err := writerProcess(t, dir, r, append(env, "JOURNAL_DIE="+point+":1")...).Wait(); !killed(err) {
				t.Fatalf("writer %d did not die at %s: %v", kills, point, err)
			}
			kills++
		}
	}
	if err := writerProcess(t, dir, r, env...).Wait(); err != nil {
		t.Fatal(err)
	}
	if n := got(); n != lines {
		t.Errorf("the follower saw %d lines of %d", n, lines)
	}
	expectNumbers(t, dir, lines)
	sound(t, dir)
	report, err := Verify(dir)
	if err != nil || report.Generations <= rotations || report.Bytes != int64(lines)*100 {
		t.Fatalf("after %d kills: %+v, %v", kills, report, err)
	}
}
