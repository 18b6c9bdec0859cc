package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

func testStore(t *testing.T) *Store {
	t.Helper()
	l, err := store.Locate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Open(l)
}

func create(t *testing.T, s *Store, name string) {
	t.Helper()
	if _, err := s.Create(t.Context(), engine.Volume{Name: name, Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
}

func TestVolumeLife(t *testing.T) {
	s := testStore(t)
	create(t, s, "shop_db")
	first, err := s.Get("shop_db")
	if err != nil || first.Driver != "local" || first.Labels["a"] != "b" || first.Created.IsZero() {
		t.Fatalf("made %+v (%v)", first, err)
	}
	kept := filepath.Join(s.layout.VolumeData("shop_db"), "kept")
	if err := os.WriteFile(kept, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := s.Create(t.Context(), engine.Volume{Name: "shop_db", Options: engine.Options{"type": "tmpfs", "device": "tmpfs"}})
	if err != nil || !again.Created.Equal(first.Created) {
		t.Errorf("made again: %+v (%v), want the first", again, err)
	}
	if d := Differs(again, engine.Volume{Options: engine.Options{"type": "tmpfs"}}); len(d) != 1 || d[0] != "driver_opts" {
		t.Errorf("it differs in %v", d)
	}
	err = s.Remove(t.Context(), "shop_db", func(string) string { return "container shop-db-1" })
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "shop-db-1") {
		t.Errorf("removed although used: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	create(t, s, "another")
	if all, err := s.List(); err != nil || len(all) != 2 || all[0].Name != "another" {
		t.Errorf("listed %v (%v)", all, err)
	}
	if err := s.Remove(t.Context(), "shop_db", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "shop_db", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := s.Get("shop_db"); !errors.Is(err, ErrNotFound) {
		t.Errorf("still there: %v", err)
	}
	locks, err := os.ReadDir(filepath.Dir(s.lock("x")))
	if err != nil || len(locks) != 1 { // that of the volume that lives
		t.Errorf("locks left: %v (%v)", locks, err)
	}
}

// TestInterruptedCreate: the record was written, then the power went.
func TestInterruptedCreate(t *testing.T) {
	s := testStore(t)
	create(t, s, "vol")
	if err := os.Remove(s.layout.VolumeData("vol")); err != nil {
		t.Fatal(err)
	}
	create(t, s, "vol")
	if _, err := os.Stat(s.layout.VolumeData("vol")); err != nil {
		t.Error(err)
	}
}

func TestVolumeNames(t *testing.T) {
	s := testStore(t)
	for _, n := range []string{"", "a", "..", "../x", "a/b", "-x", ".x", "ä1", "a\x00b", strings.Repeat("a", 256)} {
		if _, err := s.Create(t.Context(), engine.Volume{Name: n}); err == nil {
			t.Errorf("%q passes as a volume's name", n)
		}
		if err := s.Remove(t.Context(), n, nil); err == nil {
			t.Errorf("%q passes as a volume's name to remove", n)
		}
	}
	if n := AnonymousName(); len(n) != 64 || !ValidName(n) || n == AnonymousName() {
		t.Errorf("%q as an anonymous name", n)
	}
}

func TestDriverOptions(t *testing.T) {
	for want, v := range map[string]engine.Volume{
		"no volume driver":       {Driver: "rexray"},
		`option "colour"`:        {Options: engine.Options{"colour": "red"}},
		"option device is missi": {Options: engine.Options{"type": "tmpfs"}},
		"option type is missing": {Options: engine.Options{"device": "/dev/sdx"}},
	} {
		v.Name = "vol"
		if _, err := testStore(t).Create(t.Context(), v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error is %v, want one about %q", v, err, want)
		}
	}
	nfs := engine.Volume{Options: engine.Options{"type": "nfs4", "o": "ro,nosuid,soft,vers=4.2", "device": "10.0.0.1:/export"}}
	flags, data, err := mountOptions(nfs)
	if err != nil || flags != unix.MS_RDONLY|unix.MS_NOSUID || data != "soft,vers=4.2,addr=10.0.0.1" {
		t.Errorf("nfs is mounted with %x, %q (%v)", flags, data, err)
	}
	nfs.Options["device"] = "files.example:/export"
	if _, _, err := mountOptions(nfs); err == nil || !strings.Contains(err.Error(), "addr=") {
		t.Errorf("a server by name: %v", err)
	}
}

func TestMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs the superuser")
	}
	s := testStore(t)
	create(t, s, "vol")
	at, src := s.layout.VolumeData("vol"), t.TempDir()
	bind := engine.Volume{Name: "vol", Options: engine.Options{"type": "none", "o": "bind,ro,nosuid", "device": src}}
	if err := Mount(bind, at); err != nil {
		t.Fatal(err)
	}
	defer Unmount(at)
	if err := os.WriteFile(filepath.Join(at, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only bind: %v", err)
	}
	if err := s.Remove(t.Context(), "vol", nil); !errors.Is(err, ErrInUse) {
		t.Errorf("removed with something mounted: %v", err)
	}
	if err := errors.Join(Unmount(at), Unmount(at)); err != nil {
		t.Fatal(err)
	}
	tmpfs := engine.Volume{Name: "vol", Options: engine.Options{"type": "tmpfs", "o": "size=1m,mode=0700,uid=5", "device": "tmpfs"}}
	if err := Mount(tmpfs, at); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil || st.Uid != 5 || st.Mode&0o7777 != 0o700 {
		t.Errorf("tmpfs is of %d, mode %o (%v)", st.Uid, st.Mode, err)
	}
	if err := Unmount(at); err != nil {
		t.Fatal(err)
	}
	missing := engine.Volume{Name: "vol", Options: engine.Options{"type": "none", "o": "bind", "device": filepath.Join(src, "no")}}
	if err := Mount(missing, at); err == nil || !strings.Contains(err.Error(), "does the device exist") {
		t.Errorf("a missing device: %v", err)
	}
}

// imageRoot is a container's root file system for CopyUp, beside a canary.
func imageRoot(t *testing.T) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "run/db/sub"), 0o755))
	must(os.MkdirAll(filepath.Join(root, "var"), 0o755))
	must(os.Symlink("/run", filepath.Join(root, "var/run")))
	must(os.Symlink("../../../../../../../..", filepath.Join(root, "out")))
	must(os.WriteFile(filepath.Join(root, "run/db/f"), []byte("data"), 0o640))
	must(os.WriteFile(filepath.Join(root, "run/db/su"), []byte("su"), 0o755))
	must(os.Link(filepath.Join(root, "run/db/f"), filepath.Join(root, "run/db/sub/same")))
	must(os.Symlink("/etc/passwd", filepath.Join(root, "run/db/link")))
	must(unix.Mknod(filepath.Join(root, "run/db/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(os.Lchown(filepath.Join(root, "run/db/f"), 70, 71))
	must(os.Lchown(filepath.Join(root, "run/db/link"), 72, 72))
	must(os.Chmod(filepath.Join(root, "run/db/su"), 0o755|os.ModeSetuid))
	must(unix.Setxattr(filepath.Join(root, "run/db/f"), "user.note", []byte("hi"), 0))
	must(os.Lchown(filepath.Join(root, "run/db"), 70, 70))
	must(os.Chmod(filepath.Join(root, "run/db"), 0o700))
	must(os.Chtimes(filepath.Join(root, "run/db/f"), time.Unix(5, 0), time.Unix(6, 0)))
	must(os.Chtimes(filepath.Join(root, "run/db/null"), time.Unix(7, 0), time.Unix(8, 0)))
	r, err := os.OpenRoot(root)
	must(err)
	t.Cleanup(func() { r.Close() })
	return r, root
}

// listing says all that CopyUp must keep of a directory's entries.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	inodes := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %o %d:%d %d %d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Rdev)
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			if inodes[st.Ino] != "" {
				b.WriteString(" same as " + inodes[st.Ino])
			}
			inodes[st.Ino] = rel
			content, _ := os.ReadFile(p)
			note := make([]byte, 10)
			n, _ := unix.Lgetxattr(p, "user.note", note)
			fmt.Fprintf(&b, " %q %q", content, note[:max(n, 0)])
		}
		to, _ := os.Readlink(p)
		b.WriteString(to + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCopyUp(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("owners and devices need the superuser")
	}
	root, dir := imageRoot(t)
	s := testStore(t)
	create(t, s, "db")
	// /var/run is a link to /run, absolute as in Debian.
	if err := s.CopyUp(t.Context(), root, "/var/run/db", "db"); err != nil {
		t.Fatal(err)
	}
	got, want := listing(t, s.layout.VolumeData("db")), listing(t, filepath.Join(dir, "run/db"))
	if got != want {
		t.Errorf("copied\n%s, want\n%s", got, want)
	}
	mine := filepath.Join(s.layout.VolumeData("db"), "f")
	if err := os.WriteFile(mine, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.CopyUp(t.Context(), root, "/run/db", "db"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(mine); string(b) != "changed" {
		t.Errorf("a volume in use was copied over: %s", b)
	}
}

func TestCopyUpOfNothing(t *testing.T) {
	root, dir := imageRoot(t)
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "empty"), 5, 6); err != nil {
		t.Fatal(err)
	}
	s := testStore(t)
	create(t, s, "vol")
	for _, path := range []string{"/nowhere", "/run/db/f", "/run/db/f/x", "../../etc/../nowhere", "/proc/self/root/nowhere"} {
		if err := s.CopyUp(t.Context(), root, path, "vol"); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := s.CopyUp(t.Context(), root, "/empty", "vol"); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(s.layout.VolumeData("vol"), &st); err != nil || st.Uid != 5 || st.Gid != 6 || st.Mode&0o7777 != 0o700 {
		t.Errorf("the volume is of %d:%d, mode %o (%v)", st.Uid, st.Gid, st.Mode, err)
	}
	if got := strings.Count(listing(t, s.layout.VolumeData("vol")), "\n"); got != 1 {
		t.Errorf("%d entries in a volume of an empty directory", got)
	}
}

// TestCopyUpStaysInside: paths that climb or link out end in the image.
func TestCopyUpStaysInside(t *testing.T) {
	for _, path := range []string{"/../../run/db", "/out/run/db", "/out/../out/run/db", "../run/db"} {
		root, dir := imageRoot(t)
		if err := os.MkdirAll(filepath.Join(filepath.Dir(dir), "run/db/canary"), 0o755); err != nil {
			t.Fatal(err)
		}
		s := testStore(t)
		create(t, s, "vol")
		if err := s.CopyUp(t.Context(), root, path, "vol"); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := os.Stat(filepath.Join(s.layout.VolumeData("vol"), "su")); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestCopyUpGoesOn finishes a copy that was cut by a crash, and keeps what is
// there.
func TestCopyUpGoesOn(t *testing.T) {
	root, _ := imageRoot(t)
	s := testStore(t)
	create(t, s, "vol")
	data := s.layout.VolumeData("vol")
	for path, content := range map[string]string{
		filepath.Join(s.layout.Volume("vol"), "copyup"): "",
		filepath.Join(data, "su"):                       "mine",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CopyUp(t.Context(), root, "/run/db", "vol"); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(data, "f")); string(b) != "data" {
		t.Errorf("f is %q", b)
	}
	if b, _ := os.ReadFile(filepath.Join(data, "su")); string(b) != "mine" {
		t.Errorf("su is %q", b)
	}
	if exists(filepath.Join(s.layout.Volume("vol"), "copyup")) {
		t.Error("the mark of a copy is left")
	}
}
