package quota_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store/quota"
	"github.com/davit-run/davit/tests/kernel"
)

// enforcing mounts a file system of 64 MiB that enforces project quotas.
func enforcing(t *testing.T) string {
	t.Helper()
	kernel.NeedRoot(t)
	image, at := filepath.Join(t.TempDir(), "ext4"), t.TempDir()
	check(t, os.WriteFile(image, nil, 0o600))
	check(t, os.Truncate(image, 64<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota", image).CombinedOutput(); err != nil {
		t.Skipf("no ext4 with quotas can be made here: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,prjquota", image, at).CombinedOutput(); err != nil {
		t.Skipf("this kernel mounts no ext4 with project quotas: %s", out)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// directories makes empty ones below at.
func directories(t *testing.T, at string, names ...string) []string {
	t.Helper()
	var all []string
	for _, n := range names {
		all = append(all, filepath.Join(at, n))
		check(t, os.Mkdir(all[len(all)-1], 0o755))
	}
	return all
}

// obey gives up what puts this thread above quotas, and the thread with it.
func obey(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	check(t, unix.Capget(&head, &caps[0]))
	caps[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	check(t, unix.Capset(&head, &caps[0]))
}

func TestNoQuotasAreToldApart(t *testing.T) {
	kernel.NeedRoot(t)
	at := t.TempDir()
	check(t, unix.Mount("none", at, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	dir := directories(t, at, "a")[0]
	err := quota.Limit(t.Context(), filepath.Join(t.TempDir(), "lock"), 1<<20, dir)
	if !errors.Is(err, quota.ErrUnsupported) {
		t.Errorf("limit on tmpfs: %v, want ErrUnsupported", err)
	}
	check(t, quota.Lift(dir))
	check(t, quota.Lift(filepath.Join(at, "missing")))
}

func TestDirectoriesOfOneLimitShareIt(t *testing.T) {
	at := enforcing(t)
	obey(t)
	lock := filepath.Join(t.TempDir(), "lock")
	one, other := directories(t, at, "upper", "work"), directories(t, at, "other")
	check(t, quota.Limit(t.Context(), lock, 4<<20, one...))
	check(t, quota.Limit(t.Context(), lock, 8<<20, other...))
	check(t, quota.Limit(t.Context(), lock, 4<<20, one...)) // as at the next start
	write := func(dir, name string, megabytes int) error {
		return os.WriteFile(filepath.Join(dir, name), make([]byte, megabytes<<20), 0o644)
	}
	check(t, os.Mkdir(filepath.Join(one[0], "sub"), 0o755))
	check(t, write(filepath.Join(one[0], "sub"), "half", 2))
	if err := write(one[1], "more", 3); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("5 MiB in a limit of 4: %v, want EDQUOT", err)
	}
	check(t, os.Rename(filepath.Join(one[1], "more"), filepath.Join(one[0], "more"))) // overlayfs does so
	check(t, write(other[0], "file", 6))
	check(t, quota.Lift(one[0]))
	check(t, write(one[0], "more", 5))
}

// What a container writes goes through an overlay, mounted by the superuser.
func TestOverlaysAreLimited(t *testing.T) {
	at := enforcing(t)
	d := directories(t, at, "upper", "work", "lower", "merged")
	check(t, os.WriteFile(filepath.Join(d[2], "big"), make([]byte, 6<<20), 0o644))
	check(t, quota.Limit(t.Context(), filepath.Join(t.TempDir(), "lock"), 4<<20, d[0], d[1]))
	check(t, unix.Mount("overlay", d[3], "overlay", 0, "lowerdir="+d[2]+",upperdir="+d[0]+",workdir="+d[1]))
	t.Cleanup(func() { _ = unix.Unmount(d[3], unix.MNT_DETACH) })
	check(t, os.WriteFile(filepath.Join(d[3], "fits"), make([]byte, 2<<20), 0o644))
	if err := os.WriteFile(filepath.Join(d[3], "not"), make([]byte, 3<<20), 0o644); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("5 MiB in a limit of 4: %v, want EDQUOT", err)
	}
	check(t, os.Remove(filepath.Join(d[3], "not")))
	if err := os.Chmod(filepath.Join(d[3], "big"), 0o600); !errors.Is(err, unix.EDQUOT) {
		t.Errorf("copy up of 6 MiB in a limit of 4: %v, want EDQUOT", err)
	}
	check(t, os.Remove(filepath.Join(d[3], "big")))
	check(t, os.Rename(filepath.Join(d[3], "fits"), filepath.Join(d[3], "renamed")))
}
