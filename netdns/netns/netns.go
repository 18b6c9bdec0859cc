package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// In calls fn on a thread that is in namespace ns, and brings the thread back
// afterwards. With a nil ns it just calls fn. fn must not start goroutines that
// expect to be in ns: a socket belongs to the namespace it was made in, a
// goroutine to none.
func In(ns *os.File, fn func() error) error {
	if ns == nil {
		return fn()
	}
	runtime.LockOSThread()
	home, err := Current()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = fn()
	leave(home)
	return err
}

// New makes a network namespace and calls fn in it before anybody else can see
// it. The caller owns the returned descriptor; the namespace lives as long as
// something refers to it.
func New(fn func() error) (*os.File, error) {
	runtime.LockOSThread()
	home, err := Current()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	ns, err := Current()
	if err == nil && fn != nil {
		err = fn()
	}
	leave(home)
	if err != nil && ns != nil {
		ns.Close()
		return nil, err
	}
	return ns, err
}

// leave brings a locked thread home. One that cannot go home stays locked, and
// so ends with its goroutine instead of serving others from the wrong place.
func leave(home *os.File) {
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
}

// Current opens the network namespace of the calling thread.
func Current() (*os.File, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	return os.NewFile(uintptr(fd), "netns"), nil
}

// Same says whether two descriptors mean one namespace.
func Same(a, b *os.File) bool {
	var sa, sb unix.Stat_t
	if unix.Fstat(int(a.Fd()), &sa) != nil || unix.Fstat(int(b.Fd()), &sb) != nil {
		return false
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino
}
