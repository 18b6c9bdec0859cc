package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/logs"
)

func TestFullDiskDropsCountsAndRecovers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	t.Run("tmpfs", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		fillDisk(t, dir)
	})
	t.Run("ext4 on a loop device", func(t *testing.T) {
		dir, image := t.TempDir(), t.TempDir()+"/disk"
		run(t, "truncate", "-s", "16M", image)
		run(t, "mkfs.ext4", "-q", image)
		run(t, "mount", "-o", "loop", image, dir)
		defer run(t, "umount", "-l", dir)
		fillDisk(t, dir)
	})
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", name, err, out)
	}
}

// fillDisk has a container print more than a disk takes, until there is room
// again: no line may go missing uncounted, none be cut but one each time it
// fills, and no write take a second.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	ballast := make([]byte, max(0, int64(st.Bavail)*st.Bsize-1<<20))
	os.WriteFile(dir+"/ballast", ballast, 0o600)
	w := wr(t, dir+"/log", Options{})
	r, pw := blockingPipe(t)
	defer r.Close()
	done := make(chan error, 1)
	go func() { done <- w.Pump(context.Background(), logs.Stdout, r) }()

	line := append(bytes.Repeat([]byte("y"), 999), '\n')
	written, late := 0, 0
	print := func() {
		start := time.Now()
		pw.Write(line)
		written++
		// A busy machine may let us wait, too, but not again and again.
		if d := time.Since(start); d > time.Second {
			if late++; late > 2 || d > 10*time.Second {
				t.Fatalf("the container was held up for %v, the %d. time", d, late)
			}
		}
	}
	for range 4000 {
		print()
	}
	os.Remove(dir + "/ballast")
	for deadline := time.Now().Add(10 * time.Second); !noticed(t, dir+"/log"); {
		if time.Now().After(deadline) {
			t.Fatal("no notice of what was dropped")
		}
		print()
		time.Sleep(time.Millisecond)
	}
	io.WriteString(pw, "the end\n")
	pw.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	lines, dropped, cut, times := 0, 0, 0, 0
	for _, l := range readAll(t, dir+"/log", all) {
		text := l[7:]
		switch {
		case strings.HasPrefix(l, "notice"):
			var n int
			fmt.Sscanf(text, "the disk was full: %d lines", &n)
			dropped += n
			times++
		case len(text) == 999 || text == "the end":
			lines++
		default:
			cut++
		}
	}
	if lines+dropped != written+1 || cut > times+1 { // the disk may fill more than once, and once more at the end
		t.Fatalf("%d lines kept and %d dropped of %d, %d cut in %d times", lines, dropped, written+1, cut, times)
	}
}

func noticed(t *testing.T, dir string) bool {
	for _, l := range readAll(t, dir, all) {
		if strings.HasPrefix(l, "notice the disk was full") {
			return true
		}
	}
	return false
}
