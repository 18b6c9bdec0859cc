package inroot_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store/inroot"
)

func open(t *testing.T) (*inroot.Root, string, string) {
	t.Helper()
	top := t.TempDir()
	inside, outside := filepath.Join(top, "in"), filepath.Join(top, "out")
	for _, d := range []string{inside, outside} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r, err := inroot.Open(inside)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, inside, outside
}

func TestLinksStayInside(t *testing.T) {
	r, inside, outside := open(t)
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"abs": outside, "up": "../out", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(inside, name)); err != nil {
			t.Fatal(err)
		}
		if b, err := r.ReadFile(name+"/secret", 10); err == nil {
			t.Errorf("%s led outside and read %q", name, b)
		}
		if err := r.RemoveAll(name); err != nil {
			t.Errorf("remove the link %s: %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Errorf("what lies outside was touched: %v", err)
	}
}

func TestADeviceOrFIFOIsNoRegularFile(t *testing.T) {
	r, inside, _ := open(t)
	if err := unix.Mkfifo(filepath.Join(inside, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("fifo", 10); err == nil {
		t.Error("a FIFO was read as a file")
	}
}

// A directory that is swapped for a link while it is made must not lead the
// chmod to what the link points at.
func TestMkdirAllNeverTouchesOutside(t *testing.T) {
	r, inside, outside := open(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		name := filepath.Join(inside, "d")
		for {
			select {
			case <-stop:
				return
			default:
			}
			if os.Remove(name) == nil {
				_ = os.Symlink(outside, name)
				_ = os.Remove(name)
			}
		}
	}()
	for range 3000 {
		if err := r.MkdirAll("d", 0o777, nil); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) &&
			!errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	st, err := os.Stat(outside)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o700 {
		t.Errorf("the directory outside has mode %o now", st.Mode().Perm())
	}
}
