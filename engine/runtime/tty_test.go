package runtime

import (
	"context"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

func TestAContainerWithATerminal(t *testing.T) {
	r := newRig(t)
	for _, init := range []bool{false, true} {
		c := r.container("tty; stty size; echo $TERM; cat /proc/self/stat | cut -d' ' -f5,8; read x; echo got $x; exit 6", func(c *engine.Container) {
			entry := c.Spec.Entrypoint
			if init {
				withProbe(c)
			}
			c.Spec.Entrypoint, c.Spec.TTY, c.Spec.Init, c.Spec.User = entry, true, init, "ann"
		})
		l := r.launch(c)
		l.Width, l.Height = 77, 22
		p, err := Start(context.Background(), l)
		if err != nil {
			t.Fatal(err)
		}
		var seen strings.Builder
		buf := make([]byte, 4096)
		for typed := false; ; {
			n, err := p.Console.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				break // EIO: the other end is gone
			}
			// What is typed is echoed at once, in the midst of what is said, and of a
			// line whose end is not written yet.
			if !typed && strings.Contains(seen.String(), "xterm\r\n") {
				typed = true
				if _, err := io.WriteString(p.Console, "word\n"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if code := r.wait(p); code != 6 {
			t.Errorf("init %v: code %d", init, code)
		}
		p.Console.Close()
		out := strings.ReplaceAll(seen.String(), "\r", "")
		if !strings.Contains(out, "/dev/pts/0\n22 77\nxterm\n") || !strings.Contains(out, "got word\n") {
			t.Errorf("init %v: %q", init, out)
		}
		if err := p.Destroy(); err != nil {
			t.Error(err)
		}
	}
}

func TestADetachedExecWithATerminalDoesNotBlock(t *testing.T) {
	r := newRig(t)
	c, p := r.idle()
	in := call(c, "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo >/tmp/done")
	in.Detach, in.Exec.TTY = true, true
	cmd, done := r.execCmd(in)
	defer done()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := r.exec(call(c, "test", "-e", "/tmp/done"), ""); code != 0 {
		t.Errorf("the command did not get to its end: %s", errs)
	}
	plain := call(c, "sh", "-c", "sleep 0.05; echo >/tmp/later")
	plain.Detach = true
	cmd, done2 := r.execCmd(plain)
	defer done2()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a detached command ends on its own", func() bool {
		return unix.Access("/proc/"+itoa(uint32(p.PID))+"/root/tmp/later", unix.F_OK) == nil
	})
}
