package runtime

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// strayTime bounds how long a failed exec's own processes are looked for.
const strayTime = 10 * time.Second

// reapStrays reaps what a failed exec left in a container's pid namespace. When
// the container ends just then, libcontainer gives up before it has been told
// of the processes that its first stage made as our children, and nobody waits
// for them; but the first process of a pid namespace does not end before every
// other one is reaped (pid_namespaces(7)).
func reapStrays(ns string) {
	wait := time.Millisecond
	for over := time.Now().Add(strayTime); time.Now().Before(over); wait = min(2*wait, 200*time.Millisecond) {
		living := false
		for _, pid := range children() {
			state, inner := inside(pid)
			if inner <= 1 || pidNamespace(pid) != ns {
				continue // the container's own first process is another's to reap
			}
			if state == "Z" {
				var ws unix.WaitStatus
				_, _ = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
				continue
			}
			living = true
		}
		if !living && wait > 100*time.Millisecond {
			return
		}
		time.Sleep(wait)
	}
}

// pidNamespace names the pid namespace that a process is in; empty when nobody
// can tell.
func pidNamespace(pid int) string {
	ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	return ns
}

// children are this process's, whichever thread made them.
func children() (pids []int) {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		b, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// inside is a process's state and its id in its innermost pid namespace; 0 for
// one that is in ours.
func inside(pid int) (state string, inner int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", 0
	}
	for line := range strings.Lines(string(b)) {
		switch f := strings.Fields(line); {
		case len(f) > 1 && f[0] == "State:":
			state = f[1]
		case len(f) > 2 && f[0] == "NSpid:":
			inner, _ = strconv.Atoi(f[len(f)-1])
		}
	}
	return state, inner
}
