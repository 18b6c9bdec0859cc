package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/tests/kernel"
)

// occupy starts a process of that number once who had it has gone. Nil: it has
// been given to somebody else's, who is a stranger as well.
func occupy(t *testing.T, pid int) *os.Process {
	t.Helper()
	path, err := exec.LookPath("sleep")
	must(t, err)
	for over := time.Now().Add(patience / 4); time.Now().Before(over); time.Sleep(time.Millisecond) {
		switch err := startAs(pid, path, "sleep", "1000"); err {
		case nil:
			p, err := os.FindProcess(pid)
			must(t, err)
			t.Cleanup(func() { _ = p.Kill() })
			return p
		case unix.EEXIST:
		case unix.ENOSYS, unix.EINVAL, unix.E2BIG, unix.EPERM:
			t.Skipf("this kernel does not let anybody choose a number (clone3(2), 5.5): %v", err)
		default:
			t.Fatal(err)
		}
	}
	return nil
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// startAs runs a program in a child of the number that is asked for: EEXIST when
// it is taken.
func startAs(pid int, path string, args ...string) error {
	program, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	number, none := int32(pid), []*byte{nil}
	c := cloneArgs{exitSignal: uint64(unix.SIGCHLD), setTID: uint64(uintptr(unsafe.Pointer(&number))), setTIDSize: 1}
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	errno := cloneAndRun(&c, program, &argv[0], &none[0])
	runtime.KeepAlive(&number)
	if errno != 0 {
		return errno
	}
	return nil
}

// cloneAndRun forks and, in the child, which has but this thread, does nothing
// but execve(2).
//
//go:nosplit
//go:norace
func cloneAndRun(c *cloneArgs, program *byte, argv, env **byte) syscall.Errno {
	pid, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(c)), unsafe.Sizeof(*c), 0)
	if errno != 0 || pid != 0 {
		return errno
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(program)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(env)))
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

// TestNumbersOfDeadProcessesAreGivenToOthers kills anchor, keeper and
// containers together and has strangers get the containers' numbers: nobody
// takes them for containers, enters them, or ends them. 20 of them, with
// DAVIT_LONG 200.
func TestNumbersOfDeadProcessesAreGivenToOthers(t *testing.T) {
	rounds, copies := kernel.Often(2, 20), 10
	w := newWorld(t, "chaosnumber", fmt.Sprintf("services: {a: {image: busybox, command: sleep 1000d, stop_signal: SIGKILL, network_mode: none, scale: %d}}\n", copies))
	w.must(t, "up", "-d")
	right := 0
	for i := range rounds {
		before, err := w.States()
		must(t, err)
		w.killBoth(t)
		strangers := map[string]*os.Process{}
		for _, s := range before {
			end(t, s.State.PID)
		}
		for name, s := range before {
			if p := occupy(t, s.State.PID); p != nil {
				strangers[name] = p
			}
		}
		w.mistakenForNobody(t)
		if i%2 == 0 {
			w.must(t, "up", "-d")
		} else {
			w.must(t, "stop")
			w.must(t, "start")
		}
		now, err := w.States()
		must(t, err)
		for name, p := range strangers {
			s := now[name].State
			if ended, err := unix.Wait4(p.Pid, nil, unix.WNOHANG, nil); ended != 0 {
				t.Errorf("round %d: %s: the stranger was ended (%v)", i, name, err)
			} else if s.Status != engine.Running || s.PID == p.Pid || !runs(s) {
				t.Errorf("round %d: %s: %+v", i, name, s)
			} else {
				right++
			}
			_ = p.Kill()
			_, _ = p.Wait()
		}
	}
	t.Logf("%d of %d right", right, rounds*copies)
	if right == 0 {
		t.Error("no number was given to anybody")
	}
	w.must(t, "down")
}

// mistakenForNobody tries the commands that go to a process by its number.
func (w *World) mistakenForNobody(t *testing.T) {
	t.Helper()
	if out := w.must(t, "ps", "-a"); strings.Contains(out, "Up ") {
		t.Errorf("ps:\n%s", out)
	}
	if out, err := w.Davit("exec", "-T", "a", "true"); err == nil {
		t.Errorf("exec worked\n%s", out)
	}
	for _, args := range [][]string{{"kill", "a"}, {"pause", "a"}} {
		_, _ = w.Davit(args...) // that nothing runs is no error to all of them
	}
	if out, err := w.Davit("top"); err == nil && strings.Contains(out, "sleep 1000\n") {
		t.Errorf("top shows a stranger:\n%s", out)
	}
}
