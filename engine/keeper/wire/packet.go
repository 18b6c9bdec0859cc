package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// maxFDs is how many descriptors one message may carry: more than any reply
// needs, far fewer than the kernel's SCM_MAX_FD of 253.
const maxFDs = 8

// packets lends receive buffers, so that an idle connection holds none.
var packets = sync.Pool{New: func() any { b := make([]byte, MaxMessage); return &b }}

// Send writes v as one packet with the descriptors beside it. The files stay
// the caller's.
func Send(c *net.UnixConn, v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(b) > MaxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", len(b), MaxMessage)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			if fds[i], err = number(f); err != nil {
				return err
			}
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	runtime.KeepAlive(files)
	return err
}

// number is a file's descriptor. (*os.File).Fd would make it blocking, for
// whoever else holds the same open file too.
func number(f *os.File) (fd int, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = rc.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}

// Receive reads one packet into v; io.EOF when the other side closed. A packet
// that was cut short is refused, never believed in part. The files are the
// caller's to close, and close on exec.
func Receive(c *net.UnixConn, v any) ([]*os.File, error) {
	buf := packets.Get().(*[]byte)
	defer packets.Put(buf)
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	n, oobn, flags, _, err := c.ReadMsgUnix(*buf, oob)
	if err != nil {
		return nil, err
	}
	files, err := rights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n == 0 && oobn == 0 {
		return nil, io.EOF
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return nil, errors.New("message larger than the protocol allows")
	}
	if err := json.Unmarshal((*buf)[:n], v); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("decode message: %w", err)
	}
	return files, nil
}

func rights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control message: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
