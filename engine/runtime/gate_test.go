package runtime

import (
	"os"
	"path"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
)

// A build step begins while the anchor of davit's last project removes what is
// above that's own groups, and nothing in it.
func TestTheGroupsAboveAStepStand(t *testing.T) {
	id := stepParent + "/build-" + project
	cg, err := manager.New(&cgroups.Cgroup{Path: id, Resources: &cgroups.Resources{}})
	if err != nil {
		t.Fatal(err)
	}
	dirs := cg.GetPaths()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, dir := range dirs {
				_ = unix.Rmdir(filepath.Dir(filepath.Dir(dir)))
			}
		}
	})
	for range 200 {
		g := enter()
		if err := parents(id); err != nil {
			t.Error(err)
		}
		for _, dir := range dirs {
			if _, err := os.Stat(path.Dir(dir)); err != nil {
				t.Error(err)
			}
		}
		g.leave()
		removeParents(dirs)
	}
	close(stop)
	wg.Wait()
	if err := parents("/elsewhere/x"); err != nil {
		t.Error(err)
	}
}
