package anchor

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfdInfo is struct pidfd_info of linux/pidfd.h as of 6.15.
type pidfdInfo struct {
	mask                                             uint64
	cgroup                                           uint64
	pid, tgid, ppid                                  uint32
	ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid uint32
	exitCode                                         int32
}

const (
	pidfdInfoExit = 1 << 3 // PIDFD_INFO_EXIT
	// _IOWR(0xFF, 11, struct pidfd_info)
	pidfdGetInfo = 3<<30 | uintptr(unsafe.Sizeof(pidfdInfo{}))<<16 | 0xFF<<8 | 11
)

// Remembered is how the process of a pidfd ended, as the kernel keeps it for
// as long as a pidfd opened before the reap is held (PIDFD_INFO_EXIT, 6.15).
func Remembered(pidfd *os.File) (Exit, error) {
	info := pidfdInfo{mask: pidfdInfoExit}
	fd, err := number(pidfd)
	if err != nil {
		return Exit{}, err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pidfdGetInfo, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return Exit{}, errno
	}
	if info.mask&pidfdInfoExit == 0 {
		return Exit{}, errors.New("the kernel does not remember")
	}
	return exitOf(int(info.exitCode), 0, 0), nil
}
