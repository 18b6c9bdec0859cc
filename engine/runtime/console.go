package runtime

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A consoleSocket is the way by which a container's init hands over the master
// of the pty it made inside.
type consoleSocket struct{ own, child *os.File }

func newConsoleSocket() (*consoleSocket, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	return &consoleSocket{
		own:   os.NewFile(uintptr(fds[0]), "console"),
		child: os.NewFile(uintptr(fds[1]), "console"),
	}, nil
}

func (c *consoleSocket) close() {
	c.own.Close()
	c.child.Close()
}

// receive returns the pty's master: non-blocking, closed on exec.
func (c *consoleSocket) receive() (*os.File, error) {
	c.child.Close() // so that a dead sender is an end, not a wait
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(int(c.own.Fd()), name, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("receive console: no descriptor came with %d bytes", n)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive console: %d descriptors came", len(fds))
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}
