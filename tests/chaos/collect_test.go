package chaos

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

// TestCollectorBesideOthers prunes again and again while images are pulled and
// built and the project goes up and down: nothing that they need is taken from
// beneath them, and at the end the store is as it was recorded.
func TestCollectorBesideOthers(t *testing.T) {
	rounds := kernel.Often(1, 20)
	w := newWorld(t, "chaoscollect", ticking)
	ref, closeRegistry := serveImage(t)
	must(t, os.Mkdir(w.path("context"), 0o755))
	must(t, os.WriteFile(w.path("context/Dockerfile"), []byte("FROM busybox\nARG N\nRUN echo $N >/made && head -c 1000000 /dev/zero >/zeros\nRUN cat /made\n"), 0o644))
	for round := range rounds {
		for _, commands := range [][]string{
			{"image pull -q " + ref, "image build -q --network none --build-arg N=%d -t built:1 " + w.path("context"), "up -d", "system prune -f", "image prune -f"},
			{"run --rm -T worker true", "image build -q --network none --build-arg N=%d0 -t built:2 " + w.path("context"), "image rm -f " + ref, "builder prune -f", "system prune -f", "up -d --force-recreate"},
		} {
			w.allSucceed(t, round, commands)
		}
	}
	if out := w.must(t, "system", "fsck"); !strings.Contains(out, "everything is as it was recorded") {
		t.Errorf("the check says %s", out)
	}
	w.must(t, "run", "--rm", "-T", "worker", "true")
	w.must(t, "down")
	must(t, closeRegistry())
}

// allSucceed runs commands side by side.
func (w *World) allSucceed(t *testing.T, round int, commands []string) {
	t.Helper()
	var wg sync.WaitGroup
	for _, c := range commands {
		wait := w.later(strings.Fields(strings.ReplaceAll(c, "%d", fmt.Sprint(round)))...)
		wg.Go(func() {
			if _, err := wait(); err != nil {
				t.Errorf("beside a collector: %v", err)
			}
		})
	}
	wg.Wait()
}
