package anchor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The verbs between anchor and keeper. A message is a verb and names, a line
// each, with one descriptor beside it for each name where the verb says so.
const (
	verbPut  = "put"  // keeper: keep these descriptors under these names
	verbDrop = "drop" // keeper: forget everything whose name begins so
	verbExe  = "exe"  // keeper: the program to run from now on (one descriptor)
	verbOver = "over" // keeper: nothing is left to keep, leave when I end
	verbHave = "have" // anchor, at first: these descriptors are kept
	verbGo   = "go"   // anchor: that was all
)

// swept beside verbOver: whoever waits for the project's end removes its groups.
const swept = "swept"

const (
	batch      = 64 // descriptors in one message
	maxMessage = 16 << 10
)

type message struct {
	verb  string
	names []string
	files []*os.File
}

// send writes one message on a blocking SOCK_SEQPACKET descriptor.
func send(sock int, m message) error {
	body := strings.Join(append([]string{m.verb}, m.names...), "\n")
	var oob []byte
	if len(m.files) > 0 {
		fds := make([]int, len(m.files))
		for i, f := range m.files {
			fd, err := number(f)
			if err != nil {
				return err
			}
			fds[i] = fd
		}
		oob = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(sock, []byte(body), oob, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive reads one message; io.EOF when the other side is gone.
func receive(sock int, body, oob []byte) (message, error) {
	var n, oobn, flags int
	var err error
	for {
		n, oobn, flags, _, err = unix.Recvmsg(sock, body, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return message{}, err
	}
	if n == 0 {
		return message{}, io.EOF
	}
	files, err := rights(oob[:oobn])
	if err != nil {
		return message{}, err
	}
	lines := strings.Split(string(body[:n]), "\n")
	m := message{verb: lines[0], names: lines[1:], files: files}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return m, fmt.Errorf("message %q was cut short", m.verb)
	}
	return m, nil
}

func rights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "kept"))
		}
	}
	return files, nil
}

// number is a file's descriptor, its mode left as it is ((*os.File).Fd makes
// it blocking).
func number(f *os.File) (fd int, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = rc.Control(func(n uintptr) { fd = int(n) })
	return fd, err
}
