package journal

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/logs"
	"github.com/davit-run/davit/tests/kernel"
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
// again: no line may go missing uncounted, none be cut but the one that was
// under way whenever the disk filled, and no write take a second, or a minute
// where others work, too.
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

	written, most := 0, time.Duration(kernel.Often(60, 1))*time.Second
	print := func(line string) {
		start := time.Now()
		io.WriteString(pw, line+"\n")
		written++
		if d := time.Since(start); d > most {
			t.Fatalf("the container was held up for %v", d)
		}
	}
	for range 4000 {
		print(long)
	}
	os.Remove(dir + "/ballast")
	for deadline := time.Now().Add(time.Minute); !slices.Contains(readAll(t, dir+"/log", all), "stdout "+again); {
		if time.Now().After(deadline) {
			t.Fatal("nothing is kept although there is room again")
		}
		print(again)
		time.Sleep(time.Millisecond)
	}
	print(end)
	pw.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	accountFor(t, readAll(t, dir+"/log", all), written)
}

// What the container prints: more than fits, what is kept once there is room,
// and its last words.
var (
	long  = strings.Repeat("y", 999)
	again = "room again"
	end   = "the end"
)

// accountFor fails unless each printed line is kept whole or counted in a
// notice. The disk may fill more than once, since ext4 gives room back that it
// had reserved; each time may cut one line, right before its notice.
func accountFor(t *testing.T, kept []string, printed int) {
	t.Helper()
	whole, dropped, times := 0, 0, 0
	for i, l := range kept {
		stream, text, _ := strings.Cut(l, " ")
		switch {
		case stream == "notice":
			var n int
			if _, err := fmt.Sscanf(text, "the disk was full: %d lines", &n); err != nil {
				t.Fatalf("notice %q: %v", text, err)
			}
			dropped += n
			times++
		case text == long || text == again || text == end:
			whole++
		case i+1 == len(kept) || !strings.HasPrefix(kept[i+1], "notice "):
			t.Errorf("line %d of %d is cut, and no notice follows: %q", i+1, len(kept), l)
		}
	}
	if whole+dropped != printed || times == 0 {
		t.Errorf("%d lines kept and %d dropped of %d, in %d times", whole, dropped, printed, times)
	}
}
