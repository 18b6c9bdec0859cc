// Command probe looks at the container it runs in from the inside, as an
// attacker would, and prints one verdict a line.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// free is whether this container is to be stopped by nothing, and hostCaps the
// capabilities that there are to have. What a call then comes to depends on the
// kernel: only that it was not refused counts.
var free, hostCaps = len(os.Args) > 1, strings.Join(os.Args[1:], "")

func main() {
	process()
	calls()
	if !free {
		hidden()
	}
	writes()
	nodes()
}

func say(name, value string) { fmt.Printf("%s %s\n", name, value) }

func verdict(name string, err error) {
	var errno syscall.Errno
	switch {
	case free && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EROFS):
		say(name, "reached")
	case strings.HasPrefix(name, "write") && err != nil:
		say(name, "refused") // which error depends on what the kernel was built with
	case err == nil || errors.As(err, &errno) && errno == 0:
		say(name, "allowed")
	case errors.As(err, &errno):
		say(name, unix.ErrnoName(errno))
	default:
		say(name, err.Error())
	}
}

// process prints what the kernel keeps of this process's rights.
func process() {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "CapInh", "CapAmb", "NoNewPrivs", "Seccomp", "Groups":
			say(k, strings.TrimSpace(v))
		case "CapPrm", "CapEff", "CapBnd":
			if v = strings.TrimSpace(v); v == hostCaps {
				v = "all"
			}
			say(k, v)
		}
	}
	for _, fd := range []string{"3", "4", "5", "6", "7", "8", "9", "10"} {
		if to, err := os.Readlink("/proc/self/fd/" + fd); err == nil && strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			say("descriptor", to) // a file of the host's that was left open
		}
	}
}

// calls tries system calls of HARDENING's list.
func calls() {
	for _, c := range []struct {
		name    string
		nr      uintptr
		a, b, c uintptr
	}{
		{"AF_ALG", unix.SYS_SOCKET, 38, unix.SOCK_SEQPACKET, 0}, {"AF_VSOCK", unix.SYS_SOCKET, 40, unix.SOCK_STREAM, 0},
		{"AF_INET", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0}, {"AF_PACKET", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0},
		{"unshare.user", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0}, {"clone3", unix.SYS_CLONE3, 0, 0, 0},
		{"keyctl", unix.SYS_KEYCTL, 0, 0, 0}, {"bpf", unix.SYS_BPF, 0, 0, 0}, {"io_uring", unix.SYS_IO_URING_SETUP, 1, 0, 0},
		{"userfaultfd", unix.SYS_USERFAULTFD, ^uintptr(0), 0, 0}, {"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0},
		{"kexec_load", unix.SYS_KEXEC_LOAD, 0, ^uintptr(0), 0}, {"init_module", unix.SYS_INIT_MODULE, 0, 0, 0},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0}, {"personality", unix.SYS_PERSONALITY, 0x0400000, 0, 0},
		{"pivot_root", unix.SYS_PIVOT_ROOT, 0, 0, 0}, {"setns", unix.SYS_SETNS, ^uintptr(0), 0, 0},
		{"syslog", unix.SYS_SYSLOG, 10, 0, 0}, {"acct", unix.SYS_ACCT, 1, 0, 0}, {"swapon", unix.SYS_SWAPON, 0, 0, 0},
	} {
		_, _, errno := syscall.RawSyscall(c.nr, c.a, c.b, c.c)
		verdict("call."+c.name, errno)
	}
	fs, at := []byte("tmpfs\x00"), []byte("/tmp\x00")
	_, _, errno := syscall.Syscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(&fs[0])), uintptr(unsafe.Pointer(&at[0])), uintptr(unsafe.Pointer(&fs[0])), 0, 0, 0)
	verdict("call.mount", errno)
}

// hidden looks into the paths that a container must not read.
func hidden() {
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/sys/devices/virtual/powercap"} {
		st, err := os.Stat(p)
		word := "open"
		switch {
		case err != nil:
			word = "empty"
		case st.IsDir():
			if entries, _ := os.ReadDir(p); len(entries) == 0 {
				word = "empty"
			}
		default:
			f, err := os.Open(p)
			if err == nil {
				n, _ := f.Read(make([]byte, 1))
				f.Close()
				if n == 0 {
					word = "empty"
				}
			}
		}
		say("read"+p, word)
	}
}

// writes opens for writing what would let a container out.
func writes() {
	for _, p := range []string{"/file", "/tmp/file", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/proc/self/exe", "/etc/hosts"} {
		flags := os.O_WRONLY
		if strings.HasSuffix(p, "/file") {
			flags |= os.O_CREATE
		}
		f, err := os.OpenFile(p, flags, 0o600)
		if err == nil {
			f.Close()
		}
		verdict("write"+p, err)
	}
}

// nodes makes device nodes and opens them.
func nodes() {
	for _, d := range []struct {
		name         string
		kind         uint32
		major, minor uint32
	}{{"disk", unix.S_IFBLK, 8, 0}, {"mem", unix.S_IFCHR, 1, 1}, {"kmsg", unix.S_IFCHR, 1, 11}, {"fuse", unix.S_IFCHR, 10, 229}, {"null", unix.S_IFCHR, 1, 3}} {
		p := "/dev/shm/" + d.name
		if err := unix.Mknod(p, d.kind|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			verdict("mknod."+d.name, err)
			continue
		}
		p2 := "/tmp/" + d.name // where nodev does not stand in the way
		if err := unix.Mknod(p2, d.kind|0o666, int(unix.Mkdev(d.major, d.minor))); err == nil {
			p = p2
		}
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
		}
		if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
			err = nil // allowed, but this host has none
		}
		verdict("device."+d.name, err)
	}
}
