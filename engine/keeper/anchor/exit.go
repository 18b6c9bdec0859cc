package anchor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// An Exit is how a process ended.
type Exit struct {
	PID        int       `json:"pid"`
	StartTicks uint64    `json:"startTicks"` // field 22 of /proc/PID/stat
	Code       int       `json:"code"`       // CLD_EXITED, CLD_KILLED or CLD_DUMPED of waitid(2)
	Status     int       `json:"status"`     // the exit status, or the signal
	At         time.Time `json:"at"`
}

// CLD_* of asm-generic/siginfo.h.
const (
	exited = 1
	killed = 2
	dumped = 3
)

// ExitCode is the status as a shell tells it: 128+n after signal n.
func (e Exit) ExitCode() int {
	if e.Code == exited {
		return e.Status
	}
	return 128 + e.Status
}

// Signal is the signal that ended the process; 0 when it exited.
func (e Exit) Signal() int {
	if e.Code == exited {
		return 0
	}
	return e.Status
}

// siginfo is the part of siginfo_t that waitid(2) fills in, on 64-bit Linux.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
}

// Look tells how a child ended without reaping it, so that the answer can be
// recorded first: a process that reaps and dies before it has recorded loses
// the status for good. kind and id are waitid(2)'s; ok is false while no such
// child has ended. ECHILD means that there is no such child at all.
func Look(kind, id int) (e Exit, ok bool, err error) {
	var raw unix.Siginfo
	for {
		err = unix.Waitid(kind, id, &raw, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return Exit{}, false, err
	}
	info := (*siginfo)(unsafe.Pointer(&raw))
	if info.pid == 0 {
		return Exit{}, false, nil
	}
	ticks, _ := StartTicks(int(info.pid))
	return Exit{PID: int(info.pid), StartTicks: ticks, Code: int(info.code), Status: int(info.status), At: time.Now()}, true, nil
}

// Reap takes a child that has ended off the process table.
func Reap(pid int) {
	for {
		_, err := unix.Wait4(pid, nil, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// StartTicks is when a process started, in clock ticks since boot: with its
// pid it names the process for good (proc_pid_stat(5), field 22).
func StartTicks(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// Leaving tells whether a process has begun to exit, or is gone: PF_EXITING of the
// flags (proc_pid_stat(5), field 9), which it gets before it gives anything up.
func Leaving(pid int) bool {
	const exiting = 0x4
	fields, err := stat(pid)
	if err != nil {
		return true
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 64)
	return err == nil && flags&exiting != 0
}

// stat are the fields of /proc/PID/stat from the third on.
func stat(pid int) ([][]byte, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The second field is the command in parentheses, which may hold both
	// spaces and parentheses.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil, fmt.Errorf("process %d: stat has no command", pid)
	}
	fields := bytes.Fields(b[i+1:])
	if len(fields) < 20 {
		return nil, fmt.Errorf("process %d: stat is cut short", pid)
	}
	return fields, nil
}

// Unreaped tells how a process ended that is not our child and that its parent
// has not reaped yet (proc_pid_stat(5), fields 3 and 52).
func Unreaped(pid int, ticks uint64) (Exit, error) {
	fields, err := stat(pid)
	if err != nil {
		return Exit{}, err
	}
	if string(fields[0]) != "Z" || string(fields[19]) != strconv.FormatUint(ticks, 10) || len(fields) < 50 {
		return Exit{}, fmt.Errorf("process %d: no zombie", pid)
	}
	status, err := strconv.ParseUint(string(fields[49]), 10, 32)
	if err != nil {
		return Exit{}, fmt.Errorf("process %d: exit status: %w", pid, err)
	}
	return exitOf(int(status), pid, ticks), nil
}

// exitOf reads a status as wait(2) gives it.
func exitOf(status, pid int, ticks uint64) Exit {
	e := Exit{PID: pid, StartTicks: ticks, Code: exited, Status: status >> 8 & 0xff, At: time.Now()}
	if sig := status & 0x7f; sig != 0 {
		e.Code, e.Status = killed, sig
		if status&0x80 != 0 {
			e.Code = dumped
		}
	}
	return e
}

func exitPath(dir string, pid int, ticks uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%d-%d", pid, ticks))
}

// Record writes how an orphan ended below dir, whole or not at all. It lies
// where a reboot empties it, and is not synced: a reboot makes it void.
func (e Exit) Record(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return store.WriteUnsynced(exitPath(dir, e.PID, e.StartTicks), e)
}

// Recorded is what the anchor recorded of a process; store.ErrNotFound when it
// has recorded nothing.
func Recorded(dir string, pid int, ticks uint64) (Exit, error) {
	var e Exit
	err := store.Read(exitPath(dir, pid, ticks), &e)
	return e, err
}

// Forget removes the record of a process.
func Forget(dir string, pid int, ticks uint64) error {
	return store.Remove(exitPath(dir, pid, ticks))
}
