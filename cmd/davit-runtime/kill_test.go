package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/tests/kernel"
)

// TestEveryLineSurvivesKilledKeepers kills the keeper again and again while
// four containers print 20,000 lines a second each, and wants each line once,
// whole and in order: 6 kills, with DAVIT_LONG 200 under ten million lines.
func TestEveryLineSurvivesKilledKeepers(t *testing.T) {
	kills, rate, pace := 6, 20_000, 50*time.Millisecond
	if os.Getenv("DAVIT_LONG") != "" {
		kills, pace = 200, 640*time.Millisecond
	}
	l := newLab(t)
	l.printer()
	var all []*engine.Container
	for _, name := range []string{"a", "b", "c", "d"} {
		c := l.create(name, "", func(c *engine.Container) {
			c.Spec.Command = []string{"/bin/printer", "print", strconv.Itoa(rate)}
			c.Spec.Log.Options = map[string]string{"max-size": "50m", "max-file": "50"}
		})
		l.do(wire.OpStart, c)
		l.eventually("it prints", func() bool { return strings.HasPrefix(l.output(c), "line 0\n") })
		all = append(all, c)
	}
	for range kills {
		l.killKeeper(pace)
	}
	lines := 0
	for _, c := range all {
		l.must(unix.Kill(l.state(c).PID, unix.SIGTERM))
		if r := l.do(wire.OpWait, c); r.State.Restarts != 0 || r.State.ExitCode != 0 {
			t.Fatalf("state %+v", r.State)
		}
		lines += l.count(c)
	}
	t.Logf("%d lines, %d kills", lines, kills)
	if lines < 100 {
		t.Fatalf("only %d lines", lines)
	}
}

// killKeeper kills the keeper after a while and waits until the next answers.
func (l *lab) killKeeper(after time.Duration) {
	l.t.Helper()
	time.Sleep(after)
	old := 0
	l.eventually("there is a keeper", func() bool { old = l.processes()["keeper"]; return old != 0 })
	l.must(unix.Kill(old, unix.SIGKILL))
	if _, err := l.call(wire.Request{Op: wire.OpStatus}); err != nil {
		l.t.Fatal(err)
	}
	l.eventually("a keeper is there", func() bool { p := l.processes()["keeper"]; return p != 0 && p != old })
}

// printer puts this program into the lab's layer: it prints numbered lines.
func (l *lab) printer() {
	l.t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	l.must(err)
	l.must(os.WriteFile(filepath.Join(l.layout.LayerFS("base"), "bin", "printer"), self, 0o755))
	l.libraries()
}

// libraries puts what this program is linked against beside it, as ldd tells:
// a test is not linked statically unless asked to be.
func (l *lab) libraries() {
	self, err := os.Readlink("/proc/self/exe")
	l.must(err)
	out, err := exec.Command("ldd", self).Output()
	if err != nil {
		return // static: it needs none
	}
	for f := range strings.FieldsSeq(string(out)) {
		if !filepath.IsAbs(f) {
			continue
		}
		b, err := os.ReadFile(f)
		l.must(err)
		to := filepath.Join(l.layout.LayerFS("base"), f)
		l.must(os.MkdirAll(filepath.Dir(to), 0o755))
		l.must(os.WriteFile(to, b, 0o755))
	}
}

// count reads the numbered lines and wants none lost, doubled or torn. The
// last of them says how many there were.
func (l *lab) count(c *engine.Container) int {
	l.t.Helper()
	r, err := journal.Open(filepath.Join(l.layout.Container(l.project, c.ID), "log"), journal.ReadOptions{Tail: -1})
	l.must(err)
	defer r.Close()
	n, total := 0, -1
	for {
		line, err := r.Next(l.ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		l.must(err)
		if line.Stream != "stdout" {
			continue
		}
		if rest, ok := bytes.CutPrefix(line.Text, []byte("total ")); ok {
			total, _ = strconv.Atoi(string(rest))
			continue
		}
		if string(line.Text) != "line "+strconv.Itoa(n) {
			l.t.Fatalf("line %d is %q", n, line.Text)
		}
		n++
	}
	if n != total {
		l.t.Fatalf("%d lines of %d", n, total)
	}
	return n
}

// printMain prints rate numbered lines a second until SIGTERM, then how many
// they were.
func printMain(rate int, stop <-chan os.Signal) int {
	n := 0
	begun := time.Now()
	var b []byte
	for {
		select {
		case <-stop:
			_, _ = os.Stdout.WriteString("total " + strconv.Itoa(n) + "\n")
			return 0
		case <-time.After(time.Millisecond):
		}
		b = b[:0]
		for due := int(time.Since(begun).Seconds() * float64(rate)); n < due; n++ {
			b = append(b, "line "...)
			b = strconv.AppendInt(b, int64(n), 10)
			b = append(b, '\n')
		}
		if _, err := os.Stdout.Write(b); err != nil {
			return 1
		}
	}
}

func TestAKeeperToWhomPipesWereHandedNeverGivesTheProjectUp(t *testing.T) {
	none := map[string]*os.File{anchor.Ready: nil, anchor.HostMounts: nil}
	some := map[string]*os.File{anchor.HostMounts: nil, "c/1/stdout": nil}
	if !strangerTo(nil) || !strangerTo(none) || strangerTo(some) {
		t.Errorf("stranger: %v %v %v", strangerTo(nil), strangerTo(none), strangerTo(some))
	}
	if os.Getenv("DAVIT_LONG") == "" {
		return // what follows takes as long as a keeper is patient
	}
	l := newLab(t)
	c := l.create("a", "sleep 1000")
	pid := l.do(wire.OpStart, c).State.PID
	before := l.processes()
	var lock *store.Lock
	kernel.Held(t, before["anchor"], func() { // it must not start the next one before the lock is ours
		l.must(unix.Kill(before["keeper"], unix.SIGKILL))
		var err error
		lock, err = store.Acquire(l.ctx, l.layout.KeeperLock(l.project))
		l.must(err)
	})
	next := 0
	l.eventually("a keeper waits", func() bool { next = l.processes()["keeper"]; return next != 0 && next != before["keeper"] })
	l.eventually("its patience is at an end", func() bool { return unix.Kill(next, 0) != nil })
	lock.Release()
	if r, err := l.call(wire.Request{Op: wire.OpStatus, ID: c.ID}); err != nil || r.Error != "" {
		t.Fatal(r, err)
	}
	if s := l.state(c); s.Status != engine.Running || s.PID != pid || l.processes()["anchor"] != before["anchor"] {
		t.Errorf("state %+v, was process %d; anchor and keeper %v, were %v", s, pid, l.processes(), before)
	}
}
