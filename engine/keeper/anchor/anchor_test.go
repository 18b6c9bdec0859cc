package anchor

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// TestMain lets the test binary be the anchor, and a keeper that does what the
// file "orders" of its run directory says.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "anchor" {
		os.Exit(Main(os.Args[2:]))
	}
	if len(os.Args) > 3 && os.Args[1] == "keeper" {
		os.Exit(testKeeper(os.Args[3]))
	}
	if len(os.Args) > 4 && os.Args[1] == "leave" {
		Leave(store.Layout{Data: os.Args[2], Run: os.Args[3]}, os.Args[4])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testKeeper obeys: put NAME (a pipe's read end that holds NAME), orphan
// STATUS (a child that outlives it and exits with STATUS), die, exit N.
func testKeeper(run string) int {
	if filepath.Base(run) == "unready" {
		return 1
	}
	conn, kept, err := Connect(storeFD)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if f := kept[Ready]; f != nil {
		_, _ = f.WriteString("ready")
		f.Close()
		_ = conn.Drop(Ready)
	}
	var names []string
	for name, f := range kept {
		if name == Ready {
			continue
		}
		b := make([]byte, 64)
		n, _ := f.Read(b)
		names = append(names, name+"="+string(b[:n]))
		w, _ := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0)
		_, _ = w.Write(b[:n]) // for the next one
	}
	appendLine(run, "kept", strings.Join(names, " "))
	for {
		order, err := os.ReadFile(filepath.Join(run, "orders"))
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		_ = os.Remove(filepath.Join(run, "orders"))
		var what, arg string
		fmt.Sscan(string(order), &what, &arg)
		switch what {
		case "put":
			r, w, _ := os.Pipe()
			_, _ = w.WriteString("held " + arg)
			_ = conn.Put(arg, r)
			_ = conn.Put(arg+".w", w)
		case "orphan":
			c := exec.Command("/bin/sh", "-c", "sleep 0.1; exit "+arg)
			_ = c.Start()
			ticks, _ := StartTicks(c.Process.Pid)
			appendLine(run, "orphan", fmt.Sprintf("%d %d", c.Process.Pid, ticks))
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		case "die":
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		case "exit":
			if arg == "0" {
				return 0
			}
			return 3
		}
	}
}

func appendLine(run, name, line string) {
	f, err := os.OpenFile(filepath.Join(run, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, _ = f.WriteString(line + "\n")
		f.Close()
	}
}

type rig struct {
	t    *testing.T
	l    store.Layout
	p    string
	cmd  *exec.Cmd
	told *os.File
}

func newRig(t *testing.T) *rig { return newRigAt(t, "run") }

func newRigAt(t *testing.T, run string) *rig {
	t.Helper()
	dir := t.TempDir()
	var b [4]byte
	_, _ = rand.Read(b[:])
	r := &rig{t: t, l: store.Layout{Data: dir, Run: filepath.Join(dir, run)}, p: "a" + hex.EncodeToString(b[:])}
	if err := os.MkdirAll(r.l.Run, 0o700); err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	r.cmd = exec.Command(self, "anchor", r.l.Data, r.l.Run, r.p)
	r.cmd.ExtraFiles = []*os.File{write}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneFlags()}
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	r.told = read
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); _, _ = r.cmd.Process.Wait() })
	return r
}

func cloneFlags() uintptr {
	if os.Geteuid() != 0 {
		return 0
	}
	return unix.CLONE_NEWNS
}

func (r *rig) order(what string) {
	r.t.Helper()
	tmp := filepath.Join(r.l.Run, "orders.tmp")
	if err := os.WriteFile(tmp, []byte(what), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(r.l.Run, "orders")); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("order taken: "+what, func() bool {
		_, err := os.Stat(filepath.Join(r.l.Run, "orders"))
		return errors.Is(err, os.ErrNotExist)
	})
}

func (r *rig) lines(name string) []string {
	b, _ := os.ReadFile(filepath.Join(r.l.Run, name))
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	kernel.Eventually(r.t, time.Minute, what, ok)
}

func TestTheNextKeeperGetsWhatTheDeadOneKept(t *testing.T) {
	r := newRig(t)
	if b, err := io.ReadAll(r.told); err != nil || string(b) != "ready" {
		t.Fatalf("readiness: %q %v", b, err) // and its end: nobody holds the pipe any more
	}
	r.order("put c/1/stdout")
	r.order("put c/2/stdout")
	for i := range 3 {
		r.order("die")
		r.eventually("a new keeper came", func() bool { return len(r.lines("kept")) == i+2 })
		last := r.lines("kept")[i+1]
		for _, want := range []string{"c/1/stdout=held c/1/stdout", "c/2/stdout=held c/2/stdout"} {
			if !strings.Contains(last, want) {
				t.Fatalf("keeper %d was given %q", i+2, last)
			}
		}
	}
	r.order("exit 0")
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("anchor after a keeper that had nothing left to keep: %v", err)
	}
}

func TestHowAnOrphanEndedIsRecorded(t *testing.T) {
	r := newRig(t)
	// A keeper has its socket there until it clears up.
	if err := errors.Join(os.MkdirAll(r.l.RunProject(r.p), 0o700), os.WriteFile(r.l.KeeperSocket(r.p), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	r.order("orphan 42")
	var pid int
	var ticks uint64
	r.eventually("the orphan is known", func() bool {
		n, _ := fmt.Sscan(r.lines("orphan")[0], &pid, &ticks)
		return n == 2
	})
	var e Exit
	r.eventually("its end is recorded", func() (ok bool) {
		var err error
		e, err = Recorded(r.l.Exits(r.p), pid, ticks)
		return err == nil
	})
	if e.ExitCode() != 42 || e.PID != pid || time.Since(e.At) > time.Minute {
		t.Fatalf("%+v", e)
	}
	r.eventually("it was reaped", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	r.order("exit 0")
	_ = r.cmd.Wait()
}

func TestAKeeperThatNeverBecomesReadyEndsTheAnchor(t *testing.T) {
	r := newRigAt(t, "unready")
	if b, err := io.ReadAll(r.told); err != nil || len(b) > 0 {
		t.Fatalf("somebody said %q (%v)", b, err)
	}
	if err := r.cmd.Wait(); err == nil {
		t.Fatal("the anchor was content")
	}
}

// A keeper leaves in the place of an anchor that has died: its lock goes and the
// run directory with it, unless another anchor has come.
func TestAKeeperLeavesForADeadAnchor(t *testing.T) {
	dir := t.TempDir()
	l := store.Layout{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	leave := func() {
		t.Helper()
		if out, err := exec.Command(self, "leave", l.Data, l.Run, "p").CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
	}
	another, err := store.TryAcquire(l.AnchorLock("p"))
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if !exists(l.AnchorLock("p")) {
		t.Error("the lock of a living anchor was taken away")
	}
	another.Release()
	leave()
	if exists(l.RunProject("p")) {
		t.Error("the run directory of a dead anchor stays")
	}
	leave() // after somebody else
	if exists(l.RunProject("p")) {
		t.Error("the run directory has come back")
	}
}

func TestBackoff(t *testing.T) {
	for name, r := range map[string]struct {
		killed bool
		lived  time.Duration
		tries  int
		wait   time.Duration
		next   int
	}{
		"the first one is replaced at once":      {false, time.Second, 0, 0, 1},
		"a crash loop slows down":                {false, time.Second, 5, 320 * time.Millisecond, 6},
		"to half a minute":                       {false, time.Second, 99, 30 * time.Second, 100},
		"one killed from outside is back soon":   {true, time.Second, 99, 100 * time.Millisecond, 100},
		"a long life is no part of a crash loop": {false, time.Hour, 99, 0, 0},
	} {
		wait, next := backoff(r.killed, r.lived, r.tries)
		if wait != r.wait || next != r.next {
			t.Errorf("%s: %v, %d; want %v, %d", name, wait, next, r.wait, r.next)
		}
	}
}

func TestLookLeavesTheChildAndTheKernelRemembersIt(t *testing.T) {
	for script, want := range map[string]int{"exit 7": 7, "kill -9 $$": 137, "exit 0": 0} {
		c := exec.Command("/bin/sh", "-c", script)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		pid := c.Process.Pid
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		pidfd := os.NewFile(uintptr(fd), "pidfd")
		var e Exit
		for ok := false; !ok; time.Sleep(time.Millisecond) {
			if e, ok, err = Look(unix.P_PID, pid); err != nil {
				t.Fatal(err)
			}
		}
		again, ok, err := Look(unix.P_PID, pid)
		if !ok || err != nil || again.ExitCode() != want || e.StartTicks == 0 {
			t.Errorf("%s: looked again: %+v %v %v", script, again, ok, err)
		}
		Reap(pid)
		got, err := Remembered(pidfd)
		var uts unix.Utsname
		_ = unix.Uname(&uts)
		if err != nil {
			t.Skipf("kernel %s does not remember exits (PIDFD_INFO_EXIT, 6.15): %v", unix.ByteSliceToString(uts.Release[:]), err)
		}
		if got.ExitCode() != want {
			t.Errorf("%s: remembered %+v", script, got)
		}
		pidfd.Close()
		_ = c.Process.Release()
	}
}
