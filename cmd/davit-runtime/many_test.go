package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
)

// pss is the proportional set size of a process, in KiB.
func pss(t *testing.T, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			fmt.Sscan(rest, &kib)
		}
	}
	return kib
}

func (l *lab) all(op string, cs []*engine.Container) time.Duration {
	begun := time.Now()
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(func() {
			none := engine.Duration(0)
			if _, err := l.call(wire.Request{Op: op, ID: c.ID, Timeout: &none, Forget: true}); err != nil {
				l.t.Errorf("%s %s: %v", op, c.Name, err)
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// home tells whether all threads of a process are in the mount namespace of
// another one.
func (l *lab) home(pid, with int) bool {
	l.t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	l.must(err)
	l.t.Logf("threads: %d", len(tasks))
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", with))
	l.must(err)
	for _, task := range tasks {
		got, err := os.Readlink(fmt.Sprintf("/proc/%d/task/%s/ns/mnt", pid, task.Name()))
		if err == nil && got != want {
			return false
		}
	}
	return true
}

// Fifty idle containers cost their keepers at most 40 MiB, and threads do not
// grow with them; the main thread stays in the project's mount namespace.
func TestFiftyIdleContainers(t *testing.T) {
	l := newLab(t)
	n := l.network("default")
	var cs []*engine.Container
	for i := range 50 {
		cs = append(cs, l.create(fmt.Sprintf("c%d", i), "exec sleep 1000", on(n, fmt.Sprintf("c%d", i))))
	}
	t.Logf("start 50: %v", l.all(wire.OpStart, cs))
	ps := l.processes()
	l.eventually("keeper and anchor take 40 MiB at most", func() bool {
		k, a := pss(t, ps["keeper"]), pss(t, ps["anchor"])
		t.Logf("PSS: keeper %d KiB, anchor %d KiB", k, a)
		return k+a <= 40<<10
	})
	l.eventually("no thread is in a container's mount namespace", func() bool { return l.home(ps["keeper"], ps["anchor"]) })
	begun := time.Now()
	l.must(unix.Kill(ps["keeper"], unix.SIGKILL))
	if _, err := l.call(wire.Request{Op: wire.OpStatus}); err != nil {
		t.Fatal(err)
	}
	t.Logf("a new keeper knows all 50 after %v", time.Since(begun))
	t.Logf("stop 50: %v", l.all(wire.OpStop, cs))
	t.Logf("remove 50: %v", l.all(wire.OpRemove, cs))
}
