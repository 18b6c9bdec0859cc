package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// withProbe shows this test binary, and the libraries it is linked with, in a
// container, and runs it there as `/probe probe`.
func withProbe(c *engine.Container) {
	self, _ := os.Readlink("/proc/self/exe")
	c.Spec.Entrypoint = []string{"/probe", "probe"}
	for src, dst := range map[string]string{self: "/probe", "/lib": "/lib", "/lib64": "/lib64", "/usr/lib": "/usr/lib"} {
		if _, err := os.Stat(src); err == nil {
			c.Spec.Mounts = append(c.Spec.Mounts, engine.Mount{Type: engine.MountBind, Source: src, Target: dst, ReadOnly: true})
		}
	}
}

// probeMain looks at its container from the inside, as an attacker would, and
// prints one verdict a line: name, blank, value.
func probeMain() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	var names []string
	for _, f := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + f.Name())
		// Go itself holds its poller and the files of its CPU limit open; the
		// one without a target is this very directory, closed by now.
		if target != "" && !strings.HasSuffix(target, "/fd") && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
			names = append(names, f.Name())
		}
	}
	say("fds", strings.Join(names, ","))
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups":
			say(k, strings.TrimSpace(v))
		}
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "time", "user"} {
		link, _ := os.Readlink("/proc/self/ns/" + ns)
		say("ns."+ns, link)
	}
	probeSyscalls()
	probeFiles()
	probeDevices()
	return 0
}

func say(name, value string) { fmt.Printf("%s %s\n", name, value) }

func verdict(name string, errno syscall.Errno) {
	if errno == 0 {
		say(name, "allowed")
		return
	}
	say(name, unix.ErrnoName(errno))
}

func probeSyscalls() {
	call := func(name string, nr uintptr, a, b, c uintptr) {
		_, _, e := syscall.Syscall(nr, a, b, c)
		verdict(name, e)
	}
	call("AF_ALG", unix.SYS_SOCKET, 38, unix.SOCK_SEQPACKET, 0)
	call("AF_VSOCK", unix.SYS_SOCKET, 40, unix.SOCK_STREAM, 0)
	call("AF_INET", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	call("AF_UNIX", unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0)
	call("AF_NETLINK", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0)
	call("AF_PACKET", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0)
	call("unshare.user", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0)
	call("unshare.mnt", unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0, 0)
	call("clone3", unix.SYS_CLONE3, 0, 0, 0)
	call("keyctl", unix.SYS_KEYCTL, 0, 0, 0)
	call("bpf", unix.SYS_BPF, 0, 0, 0)
	call("io_uring", unix.SYS_IO_URING_SETUP, 1, 0, 0)
	call("userfaultfd", unix.SYS_USERFAULTFD, 0, 0, 0)
	call("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	call("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0)
	call("init_module", unix.SYS_INIT_MODULE, 0, 0, 0)
	call("perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0)
	call("personality.odd", unix.SYS_PERSONALITY, 0x0400000, 0, 0)
	call("pivot_root", unix.SYS_PIVOT_ROOT, 0, 0, 0)
	fs := []byte("tmpfs\x00")
	at := []byte("/tmp\x00")
	_, _, e := syscall.Syscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(&fs[0])), uintptr(unsafe.Pointer(&at[0])), uintptr(unsafe.Pointer(&fs[0])), 0, 0, 0)
	verdict("mount", e)
}

func probeFiles() {
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/interrupts", "/proc/timer_list", "/sys/firmware", "/proc/scsi", "/proc/acpi", "/sys/devices/virtual/powercap"} {
		st, err := os.Stat(p)
		switch {
		case errors.Is(err, os.ErrNotExist):
			say("masked"+p, "absent")
		case err != nil:
			say("masked"+p, "hidden")
		case st.IsDir():
			entries, _ := os.ReadDir(p)
			say("masked"+p, fmt.Sprintf("%d", len(entries)))
		default:
			b, _ := os.ReadFile(p)
			say("masked"+p, fmt.Sprintf("%d", len(b)))
		}
	}
	for _, p := range []string{"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/x", "/proc/self/exe", "/sys/fs/cgroup/memory/release_agent"} {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
			say("write"+p, "allowed")
			continue
		}
		var errno syscall.Errno
		errors.As(err, &errno)
		verdict("write"+p, errno)
	}
	dev, _ := filepath.Glob("/dev/*")
	say("dev", strings.ReplaceAll(strings.Join(dev, ","), "/dev/", ""))
	wd, _ := os.Getwd()
	say("cwd", wd)
	score, _ := os.ReadFile("/proc/self/oom_score_adj")
	say("oom", strings.TrimSpace(string(score)))
	say("env", strings.Join(os.Environ(), " "))
}

func probeDevices() {
	for name, d := range map[string][3]int{
		"disk": {unix.S_IFBLK, 8, 0}, "mem": {unix.S_IFCHR, 1, 1}, "fuse": {unix.S_IFCHR, 10, 229},
		"tun": {unix.S_IFCHR, 10, 200}, "kmsg": {unix.S_IFCHR, 1, 11}, "kvm": {unix.S_IFCHR, 10, 232}, "null": {unix.S_IFCHR, 1, 3},
	} {
		p := "/tmp/" + name
		if err := unix.Mknod(p, uint32(d[0])|0o666, int(unix.Mkdev(uint32(d[1]), uint32(d[2])))); err != nil {
			say("mknod."+name, err.Error())
			continue
		}
		fd, err := unix.Open(p, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			say("open."+name, "allowed")
			continue
		}
		verdict("open."+name, err.(syscall.Errno))
	}
}

// probe runs the probe in a container and returns its verdicts.
func (r *rig) probe(tweak ...func(*engine.Container)) map[string]string {
	r.t.Helper()
	code, out := r.run(r.container("", append([]func(*engine.Container){withProbe}, tweak...)...))
	if code != 0 {
		r.t.Fatalf("probe: exit %d: %s", code, out)
	}
	return verdicts(out)
}

func verdicts(out string) map[string]string {
	got := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		k, v, _ := strings.Cut(line, " ")
		got[k] = strings.TrimSpace(v)
	}
	return got
}

// defaultCaps is the mask of the fourteen capabilities.
const defaultCaps = "00000000a80425fb"

func TestAContainerSeenFromInside(t *testing.T) {
	r := newRig(t)
	got := r.probe()
	want := map[string]string{
		"fds": "0,1,2", "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
		"CapPrm": defaultCaps, "CapEff": defaultCaps, "CapBnd": defaultCaps,
		"NoNewPrivs": "0", "Seccomp": "2", "Groups": "0 10",
		"AF_ALG": "EPERM", "AF_VSOCK": "EPERM", "AF_INET": "allowed", "AF_UNIX": "allowed",
		"AF_NETLINK": "allowed", "AF_PACKET": "allowed",
		"unshare.user": "EPERM", "unshare.mnt": "EPERM", "clone3": "ENOSYS", "keyctl": "EPERM",
		"bpf": "EPERM", "io_uring": "EPERM", "userfaultfd": "EPERM", "open_by_handle_at": "EPERM",
		"kexec_load": "EPERM", "init_module": "EPERM", "perf_event_open": "EPERM",
		"personality.odd": "EPERM", "pivot_root": "EPERM", "mount": "EPERM",
		"write/proc/sys/kernel/core_pattern": "EROFS",
		"open.disk":                          "EPERM", "open.mem": "EPERM", "open.fuse": "EPERM", "open.tun": "EPERM",
		"open.kmsg": "EPERM", "open.kvm": "EPERM", "open.null": "allowed",
		"cwd": "/", "oom": "0",
	}
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%s: %q, want %q", k, got[k], w)
		}
	}
	for k, v := range got {
		if strings.HasPrefix(k, "masked/") && v != "0" && v != "absent" {
			t.Errorf("%s shows something: %s", k, v)
		}
		if strings.HasPrefix(k, "write/") && v == "allowed" {
			t.Errorf("%s is allowed", k)
		}
	}
	for _, d := range strings.Split(got["dev"], ",") {
		if !strings.Contains(",core,fd,full,mqueue,null,ptmx,pts,random,shm,stderr,stdin,stdout,tty,urandom,zero,", ","+d+",") {
			t.Errorf("/dev/%s is in the container", d)
		}
	}
	privateNamespaces(t, got)
	if strings.Contains(got["env"], "DAVIT") {
		t.Errorf("the starter's environment leaked: %s", got["env"])
	}
}

func privateNamespaces(t *testing.T, got map[string]string) {
	t.Helper()
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts", "time", "cgroup"} {
		own, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil || ns == "cgroup" && os.Getenv("DAVIT_TEST_CGROUPS") != "v2" {
			continue
		}
		if got["ns."+ns] == own || got["ns."+ns] == "" {
			t.Errorf("namespace %s is the host's", ns)
		}
	}
}

func TestPrivilegedTightAndUsersSeenFromInside(t *testing.T) {
	r := newRig(t)
	got := r.probe(func(c *engine.Container) { c.Spec.Security.Privileged = true })
	if got["Seccomp"] != "0" || got["mount"] != "allowed" || got["CapInh"] != "0000000000000000" {
		t.Errorf("privileged: seccomp %s, mount %s", got["Seccomp"], got["mount"])
	}
	got = r.probe(func(c *engine.Container) { c.Spec.Security.Tight = true })
	if got["NoNewPrivs"] != "1" || got["CapBnd"] != "00000000800405fb" || got["Seccomp"] != "2" {
		t.Errorf("tight: nnp %s, bounding %s, seccomp %s", got["NoNewPrivs"], got["CapBnd"], got["Seccomp"])
	}
	got = r.probe(func(c *engine.Container) { c.Spec.User = "ann" })
	if got["CapEff"] != "0000000000000000" || got["CapBnd"] != defaultCaps || got["Groups"] != "10 44 1000" {
		t.Errorf("ann: effective %s, bounding %s, groups %s", got["CapEff"], got["CapBnd"], got["Groups"])
	}
	got = r.probe(func(c *engine.Container) {
		c.Spec.Security.CapDrop, c.Spec.Security.CapAdd = []string{"ALL"}, []string{"net_admin"}
	})
	if got["CapEff"] != "0000000000001000" {
		t.Errorf("ALL dropped, NET_ADMIN added: %s", got["CapEff"])
	}
}
