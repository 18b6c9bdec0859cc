package mirror

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const busybox = "/bin/busybox"

// inside runs a process whose root is a directory of the test's.
func inside(t *testing.T) (*Mirror, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a root of its own needs root")
	}
	content, err := os.ReadFile(busybox)
	if err != nil {
		t.Skip("busybox-static is not installed")
	}
	root := filepath.Join(t.TempDir(), "root")
	must(t, os.MkdirAll(filepath.Join(root, "app"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "busybox"), content, 0o755))
	cmd := exec.Command("/busybox", "sleep", "3600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 1234, Gid: 1235}}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.Now().Add(time.Minute)
	for {
		m, err := Open(cmd.Process.Pid, 0)
		if err == nil && m.uid == 1234 {
			t.Cleanup(func() { m.Close() })
			return m, root
		}
		if time.Now().After(deadline) {
			t.Fatal("the process did not start")
		}
		time.Sleep(time.Millisecond)
	}
}

func owner(st os.FileInfo) [2]uint32 {
	own := st.Sys().(*syscall.Stat_t)
	return [2]uint32{own.Uid, own.Gid}
}

func (m *Mirror) put(from, to string) error { return m.Apply([]File{{From: from, To: to}}, false) }

func (m *Mirror) remove(to string, dir bool) error {
	return m.Apply([]File{{To: to, Gone: true, Dir: dir}}, false)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Files, directories and links arrive with mode and time, as the process's user.
func TestPut(t *testing.T) {
	m, root := inside(t)
	src := t.TempDir()
	file := filepath.Join(src, "main.go")
	must(t, os.WriteFile(file, []byte("package main"), 0o600))
	must(t, os.Chmod(file, 0o751))
	must(t, os.Symlink("main.go", filepath.Join(src, "link")))
	must(t, os.Mkdir(filepath.Join(src, "dir"), 0o710))
	for name, mode := range map[string]os.FileMode{"main.go": 0o751, "link": os.ModeSymlink | 0o777, "dir": os.ModeDir | 0o710} {
		to := "/app/new/place/" + name
		must(t, m.put(filepath.Join(src, name), to))
		st, err := os.Lstat(filepath.Join(root, to))
		must(t, err)
		if st.Mode() != mode || owner(st) != [2]uint32{1234, 1235} {
			t.Errorf("%s is %s of %v", name, st.Mode(), owner(st))
		}
	}
	want, _ := os.Stat(file)
	have, err := os.Stat(filepath.Join(root, "app/new/place/main.go"))
	must(t, err)
	if have.ModTime().Unix() != want.ModTime().Unix() || !m.same(file, "/app/new/place/main.go") {
		t.Error("time or content differ")
	}
	if st, _ := os.Stat(filepath.Join(root, "app/new")); owner(st) != [2]uint32{1234, 1235} {
		t.Errorf("a directory made on the way is of %v", owner(st))
	}
}

// One kind of thing takes the place of another.
func TestPutReplaces(t *testing.T) {
	m, root := inside(t)
	src := t.TempDir()
	file, dir, link := filepath.Join(src, "file"), filepath.Join(src, "dir"), filepath.Join(src, "link")
	must(t, os.WriteFile(file, []byte("x"), 0o644))
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Symlink("file", link))
	for _, from := range []string{file, dir, link, dir, file, link, file} {
		must(t, m.put(from, "/app/it"))
		a, _ := os.Lstat(from)
		b, err := os.Lstat(filepath.Join(root, "app/it"))
		must(t, err)
		if a.Mode() != b.Mode() {
			t.Errorf("%s became %s", a.Mode(), b.Mode())
		}
	}
	must(t, m.put(dir, "/app/it/below"))
	must(t, m.remove("/app/it", true))
	if _, err := os.Stat(filepath.Join(root, "app/it/below")); err != nil {
		t.Error("a directory with something in it was removed")
	}
	must(t, m.remove("/app/it/below", true))
	must(t, m.remove("/app/it", true))
	must(t, m.remove("/app/nothing/there", false))
	for _, from := range []string{file, dir} { // of the other kind than it was seen as
		must(t, m.put(from, "/app/it"))
		must(t, m.remove("/app/it", from == file))
		if _, err := os.Lstat(filepath.Join(root, "app/it")); err == nil {
			t.Errorf("%s stayed", from)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "app/it")); err == nil {
		t.Error("an empty directory stayed")
	}
}

// Links in the container lead to the container's files, wherever they point.
func TestLinksStayInside(t *testing.T) {
	m, root := inside(t)
	src, outside := t.TempDir(), t.TempDir()
	file := filepath.Join(src, "f")
	must(t, os.WriteFile(file, []byte("new"), 0o644))
	victim := filepath.Join(outside, "f")
	must(t, os.WriteFile(victim, []byte("old"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(root, "app/away")))
	must(t, os.Symlink("../../../../../../"+outside, filepath.Join(root, "app/up")))
	must(t, os.Symlink(victim, filepath.Join(root, "app/f")))
	for _, to := range []string{"/app/away/f", "/app/up/f", "/app/f"} {
		if err := m.put(file, to); err != nil {
			t.Logf("%s: %v", to, err)
		}
		_ = m.put(src, filepath.Dir(to))
		_ = m.remove(to, false)
	}
	st, err := os.Stat(victim)
	content, _ := os.ReadFile(victim)
	if err != nil || string(content) != "old" || st.Mode() != 0o600 || owner(st) != [2]uint32{0, 0} {
		t.Errorf("the host's file is now %q %v %v", content, st, err)
	}
}

// A process that has ended and whose number another one has is refused.
func TestAnotherProcess(t *testing.T) {
	if m, err := Open(os.Getpid(), 1); err == nil {
		m.Close()
		t.Error("opened")
	}
}

// Many files come to many directories, some of which are not there yet, and the
// file that one of them has to give way is gone.
func TestManyAtOnce(t *testing.T) {
	m, root := inside(t)
	src := t.TempDir()
	var files []File
	for i := range 40 {
		dir := fmt.Sprintf("new/%d/deep", i%8)
		name := fmt.Sprintf("%s/f%d", dir, i)
		must(t, os.MkdirAll(filepath.Join(src, dir), 0o755))
		must(t, os.WriteFile(filepath.Join(src, name), bytes.Repeat([]byte{byte(i)}, i*10_000), 0o644))
		files = append(files, File{From: filepath.Join(src, name), To: "/app/" + name})
	}
	must(t, os.MkdirAll(filepath.Join(root, "app/new"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "app/new/3"), nil, 0o644))
	must(t, m.Apply(files, false))
	for _, f := range files {
		if !m.same(f.From, f.To) {
			t.Errorf("%s differs", f.To)
		}
	}
	want, err := os.Stat(filepath.Join(root, files[0].To))
	must(t, err)
	must(t, m.Apply(files, true))
	have, err := os.Stat(filepath.Join(root, files[0].To))
	must(t, err)
	if !os.SameFile(want, have) {
		t.Error("a file that was there already was brought again")
	}
	if left, _ := filepath.Glob(filepath.Join(root, "app/new/*/deep/.davit-sync-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
