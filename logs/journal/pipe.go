package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// Pipe makes a pipe for a container's output. Unlike os.Pipe's, its ends are
// blocking and unknown to Go's poller, which every write would wake: measured
// with 20,000 writes a second, that is 4 % of a core instead of 2.5 %.
func Pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}
