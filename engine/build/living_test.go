package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestContextThatIsWrittenTo builds while a log of the context grows and a file
// is rewritten in place. The log is no reason to fail, and no cache key ever
// leads to another content than the one it was made of.
func TestContextThatIsWrittenTo(t *testing.T) {
	b := newBench(t)
	b.write("Dockerfile", "FROM scratch\nCOPY . /\n")
	b.write("log", "begin\n")
	b.write("word", "0000")
	for round := range 8 {
		var wg sync.WaitGroup
		stop := make(chan bool)
		wg.Go(func() {
			log, _ := os.OpenFile(filepath.Join(b.dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
			word, _ := os.OpenFile(filepath.Join(b.dir, "word"), os.O_WRONLY, 0)
			defer log.Close()
			defer word.Close()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				fmt.Fprintln(log, n)
				if n%64 == 0 && n < 128 { // twice: a context is read three times
					_, _ = word.WriteAt(fmt.Appendf(nil, "%02d%02d", round, n/64), 0)
				}
			}
		})
		res, _ := b.build()
		if log := b.read(res, "log"); !strings.HasPrefix(log, "begin\n") {
			t.Errorf("the log begins %.20q", log)
		}
		close(stop)
		wg.Wait()
		want, err := os.ReadFile(filepath.Join(b.dir, "word"))
		if err != nil {
			t.Fatal(err)
		}
		res, _ = b.build()
		if got := b.read(res, "word"); got != string(want) {
			t.Fatalf("round %d: the image has %q, the context %q", round, got, want)
		}
	}
}
