package residue_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/residue"
)

// Each of the thirteen kinds is left behind once, and has to be seen.
func TestEveryKindIsSeen(t *testing.T) {
	kernel.NeedRoot(t)
	leave := map[residue.Kind]func(t *testing.T, root string){
		residue.Mounts:     leaveMount,
		residue.Namespaces: func(t *testing.T, root string) { start(t, root, "unshare", "-n", "sleep", "600") },
		residue.Links:      leaveLink,
		residue.Firewall:   leaveTable,
		residue.Cgroups:    leaveGroup,
		residue.Leases:     func(t *testing.T, root string) { file(t, root, "data/networks/shop_default/leases/10.0.0.2") },
		residue.Sockets:    leaveLock,
		residue.WorkDirs:   func(t *testing.T, root string) { file(t, root, "data/projects/shop/containers/0abc/work/work") },
		residue.Blobs:      func(t *testing.T, root string) { file(t, root, "data/ingest/123/fs/a") },
		residue.Loops:      leaveLoop,
		residue.Processes:  func(t *testing.T, root string) { start(t, root, "sleep", "600") },
		residue.Ports:      leavePort,
		residue.Sysctls:    leaveSysctl,
	}
	for kind, act := range leave {
		t.Run(string(kind), func(t *testing.T) {
			if err := kernel.Isolate(); err != nil {
				t.Fatal(err)
			}
			place := residue.Place{Root: t.TempDir(), Projects: []string{project}}
			before := take(t, place)
			if diff := take(t, place).Since(before); len(diff) > 0 {
				t.Fatalf("a second look differs: %q", diff)
			}
			act(t, place.Root)
			// The kernel's list of locks is read in pieces, and may lack one then.
			kernel.Eventually(t, time.Minute, "it is seen", func() bool {
				diff := take(t, place).Since(before)
				return slices.ContainsFunc(diff, func(l string) bool { return strings.HasPrefix(l, string(kind)+": ") })
			})
		})
	}
}

// project is whose cgroup is left behind. Cgroups have no root: a run of this
// test beside this one has another name.
var project = fmt.Sprintf("residue-%d", os.Getpid())

func take(t *testing.T, p residue.Place) residue.Snapshot {
	t.Helper()
	s, err := p.Take()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func file(t *testing.T, root, name string) string {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start leaves a process that stands below the root, and waits until it runs
// the program itself.
func start(t *testing.T, root string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = root
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	comm := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "comm")
	kernel.Eventually(t, time.Minute, "sleep runs", func() bool {
		b, _ := os.ReadFile(comm)
		return string(b) == "sleep\n"
	})
}

func leaveMount(t *testing.T, root string) {
	dir := filepath.Join(root, "run/projects/shop/rootfs")
	must(t, os.MkdirAll(dir, 0o700))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func leaveLink(t *testing.T, _ string) {
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "dv-left"}}))
}

func leaveTable(t *testing.T, _ string) {
	c, err := nftables.New()
	must(t, err)
	c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "davit"})
	must(t, c.Flush())
}

func leaveGroup(t *testing.T, _ string) {
	tops, err := filepath.Glob("/sys/fs/cgroup/pids")
	must(t, err)
	tops = append(tops, "/sys/fs/cgroup")
	dir := filepath.Join(tops[0], "davit", project, "keeper")
	must(t, kernel.Group(dir))
	t.Cleanup(func() {
		for range 3 {
			_ = unix.Rmdir(dir)
			dir = filepath.Dir(dir)
		}
	})
}

func leaveLock(t *testing.T, root string) {
	lock, err := store.TryAcquire(filepath.Join(root, "run/locks/project-shop"))
	must(t, err)
	t.Cleanup(lock.Release)
}

func leaveLoop(t *testing.T, root string) {
	path := file(t, root, "data/volumes/disk.img")
	out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device on this machine: %s", out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", dev).Run() })
}

func leavePort(t *testing.T, _ string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(net.IPv4(127, 0, 0, 1).To4())}))
	must(t, unix.Listen(fd, 1))
}

func leaveSysctl(t *testing.T, _ string) {
	const path = "/proc/sys/net/ipv4/ip_forward"
	b, err := os.ReadFile(path)
	must(t, err)
	other := "1"
	if b[0] == '1' {
		other = "0"
	}
	must(t, os.WriteFile(path, []byte(other), 0))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
