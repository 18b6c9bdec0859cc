package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/davit-run/davit/engine/store/inroot"
)

// A Mirror reaches the files of one running container as its processes see
// them, mounts included, by way of /proc/PID/root. The container's content is
// not trusted: every path is resolved below that root (openat2(2)
// RESOLVE_IN_ROOT), so that no link in it leads to a file of the host. What is
// made belongs to the user that the container's process runs as.
type Mirror struct {
	root     *inroot.Root
	uid, gid int
	serial   atomic.Int64
	making   sync.Mutex // of directories that are missing
}

// Open reaches the container whose first process is pid, started at
// startTicks (field 22 of /proc/PID/stat): another process that has the number
// by now is refused.
func Open(pid int, startTicks uint64) (*Mirror, error) {
	root, err := inroot.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, fmt.Errorf("reach the files of process %d: %w", pid, err)
	}
	m := &Mirror{root: root}
	ticks, err := startOf(pid)
	if err == nil && startTicks != 0 && ticks != startTicks {
		err = errors.New("it has ended")
	}
	if err == nil {
		m.uid, m.gid, err = userOf(pid)
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("reach the files of process %d: %w", pid, err)
	}
	return m, nil
}

// New reaches the files below root for a container that does not run yet, and
// whose process will run as uid and gid. Close closes root.
func New(root *inroot.Root, uid, gid int) *Mirror { return &Mirror{root: root, uid: uid, gid: gid} }

// Close lets the container's files go.
func (m *Mirror) Close() error { return m.root.Close() }

func startOf(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may have anything in it; 19 more follow to field 22.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, errors.New("its stat cannot be read")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// userOf is the effective user and group of a process.
func userOf(pid int) (uid, gid int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		switch fields[0] {
		case "Uid:":
			uid, err = strconv.Atoi(fields[2])
		case "Gid:":
			gid, err = strconv.Atoi(fields[2])
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}
