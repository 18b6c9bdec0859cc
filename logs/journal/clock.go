package journal

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A clock sleeps for less than a millisecond. Go's timers do not: its poller
// waits in whole milliseconds, so that 700 µs become 1.1 ms, and two lines that
// came a millisecond apart may be taken at once.
type clock struct{ *inlet }

func newClock() (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	in, err := enlist(fd)
	if err != nil {
		return nil, err
	}
	return &clock{in}, nil
}

// sleep waits for d; a wait of milliseconds ends with enough, too.
func (c *clock) sleep(d time.Duration, enough <-chan struct{}) {
	if d >= 2*time.Millisecond { // Go's are exact enough, and cheaper
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-enough:
		}
		return
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if unix.TimerfdSettime(c.fd, 0, &at, nil) != nil || c.ask(unix.EPOLL_CTL_MOD) != nil {
		time.Sleep(d)
		return
	}
	<-c.ready
}
