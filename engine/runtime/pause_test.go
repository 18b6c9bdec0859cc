package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
)

func TestPauseStopsAndKillEndsAPausedContainer(t *testing.T) {
	r := newRig(t)
	c := r.container("while :; do :; done")
	p, err := Start(context.Background(), r.launch(c))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the container is frozen", p.Paused)
	s, err := p.Stats()
	if err != nil || bundle.ReadFacts().Controllers["pids"] && s.Pids == 0 {
		t.Errorf("stats %+v: %v", s, err)
	}
	if err := p.KillAll(); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(p); code != 137 {
		t.Errorf("code %d", code)
	}
	if err := p.Destroy(); err != nil {
		t.Error(err)
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, ErrNotRunning) {
		t.Errorf("signal to a dead container: %v", err)
	}
}

// A container that gets a CPU for some milliseconds in each second cannot be
// frozen before: it is waited for.
func TestPauseWaitsForWhoGetsNoCPU(t *testing.T) {
	r := newRig(t)
	_, p := r.idle(func(c *engine.Container) { c.Spec.Entrypoint = []string{"/bin/sh", "-c", "while :; do :; done"} })
	for name, value := range map[string]string{
		"cpu.cfs_period_us": "1000000", "cpu.cfs_quota_us": "5000", "cpu.max": "5000 1000000",
	} {
		path := filepath.Join(p.cg.Path("cpu"), name)
		if _, err := os.Stat(path); err != nil {
			continue // of the other version
		}
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if !p.Paused() {
		t.Error("it is not frozen")
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
}
