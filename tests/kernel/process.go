package kernel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Pids are the processes that were run with these arguments first, whatever
// the program. A child that was forked and has not called execve(2) yet wears
// its parent's arguments, and is none of them.
func Pids(args ...string) (all []int) {
	want := []byte("\x00" + strings.Join(args, "\x00") + "\x00")
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		own, err := os.ReadFile(dir + "/cmdline")
		_, rest, _ := bytes.Cut(own, []byte{0})
		if err != nil || !bytes.HasPrefix(rest, want[1:]) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(dir, "/proc/%d", &pid); err == nil && !forked(dir, own) {
			all = append(all, pid)
		}
	}
	return all
}

// Held stops a process, does what must not meet it, and lets it go on.
func Held(t testing.TB, pid int, do func()) {
	t.Helper()
	if pid <= 0 {
		t.Fatal("there is no process to stop")
	}
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatalf("stop process %d: %v", pid, err)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
	// The signal is a request: each thread goes on until it has seen it.
	Eventually(t, time.Minute, fmt.Sprintf("process %d has stopped", pid), func() bool { return are(pid, "Tt") })
	do()
}

// Asleep tells whether all threads of a process wait for something: it has done
// whatever it was woken for. One that is only not given a CPU does not sleep.
func Asleep(pid int) bool { return are(pid, "S") }

// Waits tells whether all threads of a process that is held were about to wait
// for something when it was stopped, as they are in the kernel (proc(5),
// /proc/PID/syscall), and not in the midst of anything.
func Waits(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, file := range files {
		call, err := os.ReadFile(file)
		number, _, _ := strings.Cut(string(call), " ")
		n, bad := strconv.Atoi(number)
		if err != nil || bad != nil || !slices.Contains([]int{unix.SYS_FUTEX, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP}, n) {
			return false
		}
	}
	return true
}

// are tells whether the state of each thread of a process (proc_pid_stat(5)) is
// among some.
func are(pid int, states string) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if !strings.Contains(states, string(f[0])) {
			return false
		}
	}
	return len(files) > 0
}

// forked tells a process whose parent has the very same arguments, or that has
// gone since they were read.
func forked(dir string, own []byte) bool {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return true
	}
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	parents, err := os.ReadFile(fmt.Sprintf("/proc/%s/cmdline", f[1]))
	return err == nil && bytes.Equal(parents, own)
}
