package tests

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
)

// Conditions of depends_on hold although the keeper is killed while a command
// waits for them: what depends on a service is started when that is healthy, or
// has done its work, and not before.
func TestConditionsOutliveTheKeeper(t *testing.T) {
	h := newHost(t, "conditions", `
services:
  db:
    image: busybox
    command: sleep 600
    stop_signal: SIGKILL
    healthcheck: {test: test -e /ready, interval: 100ms, retries: 1000000}
  once:
    image: busybox
    command: sh -c 'sleep 1; exit 0'
    depends_on: {db: {condition: service_healthy}}
  web:
    image: busybox
    command: sleep 600
    stop_signal: SIGKILL
    depends_on:
      once: {condition: service_completed_successfully}
`)
	type result struct {
		out string
		err error
	}
	up := make(chan result, 1)
	run := func(args ...string) (string, error) {
		return kernel.Run(context.Background(), h.dir, []string{"DAVIT_ROOT=" + h.root}, filepath.Join(h.bin, "davit"), args...)
	}
	go h.inside(func() {
		out, err := run("-p", h.project, "-f", "compose.yaml", "up", "-d")
		up <- result{out, err}
	})
	defer h.davit("down")
	kernel.Eventually(t, patience, "the database to run", func() bool {
		return strings.TrimSpace(h.davit("ps", "--format", "{{.State}}", "db")) == "running"
	})
	h.killKeeper(t.Context(), t, 1)
	if state := h.davit("ps", "-a", "--format", "{{.Service}} {{.State}}", "once", "web"); strings.Contains(state, "running") || strings.Contains(state, "exited") {
		t.Fatalf("started before the database is healthy:\n%s", state)
	}
	h.davit("exec", "-T", "db", "touch", "/ready")
	kernel.Eventually(t, patience, "the one-shot to run", func() bool {
		return strings.TrimSpace(h.davit("ps", "-a", "--format", "{{.State}}", "once")) != "created"
	})
	h.killKeeper(t.Context(), t, 2)
	select {
	case r := <-up:
		if r.err != nil {
			t.Fatalf("up: %v\n%s", r.err, r.out)
		}
	case <-time.After(patience):
		t.Fatal("up does not end")
	}
	times := strings.Fields(h.davit("inspect", "-f", "{{.State.FinishedAt}} {{.State.StartedAt}} {{.State.ExitCode}}", "conditions-once-1", "conditions-web-1"))
	if len(times) != 6 || times[2] != "0" {
		t.Fatalf("inspect: %q", times)
	}
	ended, err := time.Parse(time.RFC3339Nano, times[0])
	check(t, err)
	began, err := time.Parse(time.RFC3339Nano, times[4])
	check(t, err)
	if began.Before(ended) {
		t.Errorf("web was started at %v, before what it waits for ended at %v", began, ended)
	}
}
