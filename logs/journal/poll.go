package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A poller waits for many pipes with one goroutine and no thread. Go's own
// poller would do but for its edge-triggered registration: the kernel then wakes
// it for every write to a pipe, and a container that prints 20,000 lines a
// second costs 4 % of a core before a byte is moved. This one is asked each time
// (EPOLLONESHOT), so that a pipe whose output gathers is silent; it is itself a
// descriptor in Go's poller.
type poller struct {
	ep int

	mu    sync.Mutex
	next  int32
	ready map[int32]chan struct{}
}

var pipes = sync.OnceValues(newPoller)

func newPoller() (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(ep, true)
	}
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	file := os.NewFile(uintptr(ep), "epoll")
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &poller{ep: ep, ready: map[int32]chan struct{}{}}
	go func() {
		_ = conn.Read(func(uintptr) bool {
			for p.deliver() {
			}
			return false // the callback is called again when there is news
		})
		file.Close()
	}()
	return p, nil
}

// deliver tells those whose pipes have something; false when none has.
func (p *poller) deliver() bool {
	var events [64]unix.EpollEvent
	n, err := unix.EpollWait(p.ep, events[:], 0)
	if err == unix.EINTR {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range events[:max(n, 0)] {
		if c := p.ready[e.Fd]; c != nil {
			tell(c)
		}
	}
	return n > 0
}

// An inlet is a non-blocking descriptor of our own for a pipe or a terminal that
// somebody else holds, too.
type inlet struct {
	poller *poller
	fd     int
	key    int32
	ready  chan struct{}
}

func newInlet(f *os.File, open func(*os.File) (int, error)) (*inlet, error) {
	fd, err := open(f)
	if err != nil {
		return nil, err
	}
	return enlist(fd)
}

// enlist has the poller wait for a descriptor, which is closed where that fails.
func enlist(fd int) (*inlet, error) {
	p, err := pipes()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	in := &inlet{poller: p, fd: fd, ready: make(chan struct{}, 1)}
	p.mu.Lock()
	p.next++
	in.key = p.next
	p.ready[in.key] = in.ready
	p.mu.Unlock()
	if err := in.ask(unix.EPOLL_CTL_ADD); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// reopen opens the reading end of a pipe once more, so that only our descriptor
// is non-blocking: Go's poller would take up whatever os.NewFile finds to be
// so, and be woken by every write again.
func reopen(f *os.File) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	cerr := conn.Control(func(old uintptr) {
		path := fmt.Sprintf("/proc/self/fd/%d", old)
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	})
	if cerr != nil || err != nil {
		return duplicate(f) // no /proc
	}
	return fd, nil
}

// duplicate returns a non-blocking descriptor of f's open file. It does not use
// f.Fd, which would make both blocking.
func duplicate(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := conn.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	})
	return fd, errors.Join(cerr, err)
}

func (in *inlet) ask(op int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: in.key}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(in.poller.ep, op, in.fd, &e))
}

// wait returns when there is something to take, or the end; false when ctx has
// ended or done is closed.
func (in *inlet) wait(ctx context.Context, done <-chan struct{}) bool {
	if in.ask(unix.EPOLL_CTL_MOD) != nil {
		return false
	}
	select {
	case <-in.ready:
		return true
	case <-ctx.Done():
	case <-done:
	}
	return false
}

func (in *inlet) close() {
	in.poller.mu.Lock()
	delete(in.poller.ready, in.key)
	in.poller.mu.Unlock()
	// The open file lives on elsewhere, and with it its registration.
	_ = unix.EpollCtl(in.poller.ep, unix.EPOLL_CTL_DEL, in.fd, nil)
	unix.Close(in.fd)
}
