package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/tests/residue"
)

// NeedRoot skips a test that only the superuser can run.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need the superuser: sudo go test …")
	}
}

// Often is how often a test repeats what it does: some, but all of it with
// DAVIT_LONG=1 in the environment.
func Often(some, all int) int {
	if os.Getenv("DAVIT_LONG") != "" {
		return all
	}
	return some
}

// Tenth is n with DAVIT_LONG=1, else a tenth of it, but once at least.
func Tenth(n int) int { return Often(max(1, n/10), n) }

// Promptly is how long something may take: most with DAVIT_LONG=1, which is for
// machines that do nothing else, and a minute, or ten times as long, where others
// may work.
func Promptly(most time.Duration) time.Duration {
	if os.Getenv("DAVIT_LONG") != "" {
		return most
	}
	return max(10*most, time.Minute)
}

// Isolate moves the calling goroutine, and every process it starts, into a
// network namespace of its own, with lo up and nothing else. The thread dies
// with the goroutine, so there is nothing to undo; a test calls it first.
func Isolate() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// OwnMounts gives the calling goroutine, and every process it starts, a mount
// namespace: what it mounts, no other process sees.
func OwnMounts() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts slaves: %w", err)
	}
	return nil
}

// UnifiedCgroups gives the calling goroutine, and every process it starts, a
// mount namespace in which /sys/fs/cgroup is a cgroup2 mount, whatever the
// host has there: what most users' machines look like.
func UnifiedCgroups() error {
	if err := OwnMounts(); err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount cgroup2: %w", err)
	}
	return nil
}

// Root makes a short directory to be a DAVIT_ROOT: the path of a unix socket
// below it has to fit into 108 bytes.
func Root() (string, error) {
	dir, err := os.MkdirTemp("/var/tmp", "dv")
	if err != nil {
		return "", fmt.Errorf("make davit root: %w", err)
	}
	return dir, nil
}

// Scrub ends what still works below a root and removes all of it: what a test
// that failed half-way needs. It is no test of davit's own clean-up, which
// comes before.
func Scrub(root string) error {
	if err := End(root); err != nil {
		return err
	}
	unmountBelow(root)
	removeGroups(root)
	return os.RemoveAll(root)
}

// End kills whatever works below a root, and returns when it is gone; a minute
// later it is an error that it is not.
func End(root string) error {
	place := residue.Place{Root: root}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		pids, err := place.PIDs()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("end what works below %s: processes %v do not die", root, pids)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// Group makes a cgroup of the host's, with those above it that are missing.
// Whoever ends davit's last container beside us removes the empty ones above.
func Group(dir string) error {
	for {
		if err := os.MkdirAll(dir, 0o755); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}

func unmountBelow(root string) {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], root+"/") {
			_ = unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
}

// removeGroups removes the empty cgroups of the root's projects, deepest first.
func removeGroups(root string) {
	projects, _ := filepath.Glob(filepath.Join(root, "data/projects/*"))
	for _, p := range projects {
		for _, top := range []string{"/sys/fs/cgroup/davit", "/sys/fs/cgroup/*/davit"} {
			for _, pattern := range []string{"*/*", "*", ""} {
				dirs, _ := filepath.Glob(filepath.Join(top, filepath.Base(p), pattern))
				for _, d := range dirs {
					_ = unix.Rmdir(d)
				}
			}
		}
	}
}

// Eventually waits until cond holds; what names it in the failure.
func Eventually(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for wait := time.Millisecond; !cond(); wait = min(2*wait, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(wait)
	}
}

// Namespace makes a network namespace, with lo up and nothing else, for as long as
// the test runs.
func Namespace(t testing.TB) *os.File {
	t.Helper()
	ns, err := netns.New(func() error {
		l, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// Binaries returns the directory of the built executables: the one that
// DAVIT_BIN names, else bin/ at the top of the module. It is an error when they
// are not there.
func Binaries() (string, error) {
	if dir := os.Getenv("DAVIT_BIN"); dir != "" {
		return dir, nil
	}
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", fmt.Errorf("find the module: built without paths")
	}
	dir := filepath.Join(filepath.Dir(file), "..", "..", "bin")
	for _, name := range []string{"davit", "davit-runtime"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("find executables: %w (make build)", err)
		}
	}
	return dir, nil
}

// Run runs a program in the calling goroutine's namespaces with the given
// variables added to the environment, and returns its combined output.
func Run(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
