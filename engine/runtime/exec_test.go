package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// idle starts a container that waits for its end.
func (r *rig) idle(tweak ...func(*engine.Container)) (*engine.Container, *Process) {
	r.t.Helper()
	c := r.container("trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done", tweak...)
	p, err := Start(context.Background(), r.launch(c))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = p.KillAll()
		r.wait(p)
		if err := p.Destroy(); err != nil {
			r.t.Error(err)
		}
	})
	return c, p
}

// exec runs `davit-runtime exec` and returns its exit code and streams.
func (r *rig) exec(call engine.ExecCall, stdin string) (code int, out, errs string) {
	r.t.Helper()
	cmd, done := r.execCmd(call)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &o, &e
	err := cmd.Run()
	done()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

func (r *rig) execCmd(call engine.ExecCall) (*exec.Cmd, func()) {
	r.t.Helper()
	call.Data, call.Run = r.layout.Data, r.layout.Run
	text, _ := json.Marshal(call)
	pr, pw, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := pw.Write(text); err != nil {
		r.t.Fatal(err)
	}
	pw.Close()
	cmd := exec.Command("/proc/self/exe", "exec")
	cmd.ExtraFiles = []*os.File{pr}
	return cmd, func() { pr.Close() }
}

func call(c *engine.Container, args ...string) engine.ExecCall {
	return engine.ExecCall{Project: c.Project, ID: c.ID, Exec: engine.Exec{Args: args}}
}

func TestExecPassesStreamsAndTheExitCode(t *testing.T) {
	r := newRig(t)
	c, _ := r.idle(func(c *engine.Container) { c.Spec.Env = map[string]string{"A": "1", "B": "2"} })
	in := call(c, "sh", "-c", "cat; echo $A $B $C $HOME; echo oops >&2; exit 42")
	in.Stdin, in.Exec.Env = true, []string{"B=3", "C=4"}
	code, out, errs := r.exec(in, "typed\n")
	if code != 42 || out != "typed\n1 3 4 /root\n" || errs != "oops\n" {
		t.Errorf("code %d, out %q, err %q", code, out, errs)
	}
	as := call(c, "sh", "-c", "id; pwd; echo $HOME")
	as.Exec.User, as.Exec.WorkingDir = "ann", "/tmp"
	if code, out, errs = r.exec(as, ""); code != 0 || out != "uid=1000(ann) gid=1000(ann) groups=10(wheel),44(video),1000(ann)\n/tmp\n/home/ann\n" {
		t.Errorf("code %d, out %q, err %q", code, out, errs)
	}
}

func TestExecSaysWhyACommandCannotBeRun(t *testing.T) {
	r := newRig(t)
	r.file("etc/data", "no program")
	c, p := r.idle()
	for cmd, want := range map[string]int{"nosuchcommand": 127, "/nosuch": 127, "/etc/data": 126, "/etc": 126} {
		if code, _, errs := r.exec(call(c, cmd), ""); code != want || !strings.HasPrefix(errs, "davit: ") {
			t.Errorf("%s: code %d, want %d: %s", cmd, code, want, errs)
		}
	}
	if code, _, _ := r.exec(call(c, "sh", "-c", "kill -9 $$"), ""); code != 137 {
		t.Errorf("killed: code %d", code)
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := r.exec(call(c, "true"), ""); code != 1 || !strings.Contains(errs, "paused") {
		t.Errorf("paused: code %d: %s", code, errs)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	gone := r.container("true")
	if code, _, errs := r.exec(call(gone, "true"), ""); code != 1 || !strings.Contains(errs, "not running") {
		t.Errorf("not running: code %d: %s", code, errs)
	}
}

func TestExecHasTheContainersWalls(t *testing.T) {
	r := newRig(t)
	c, _ := r.idle(func(c *engine.Container) {
		entry := c.Spec.Entrypoint
		withProbe(c)
		c.Spec.Entrypoint = entry
	})
	code, out, errs := r.exec(call(c, "/probe", "probe"), "")
	if code != 0 {
		t.Fatalf("code %d: %s", code, errs)
	}
	got := verdicts(out)
	for k, want := range map[string]string{
		"fds": "0,1,2", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapEff": defaultCaps,
		"CapBnd": defaultCaps, "Seccomp": "2", "unshare.user": "EPERM", "mount": "EPERM", "AF_ALG": "EPERM",
		"open.disk": "EPERM", "cwd": "/",
	} {
		if got[k] != want {
			t.Errorf("%s: %q, want %q", k, got[k], want)
		}
	}
	privateNamespaces(t, got)
}

// libcontainer gives descriptors 0 to 2 to the container's user; the user's
// own files must not be among them.
func TestExecLeavesTheUsersFilesTheirOwner(t *testing.T) {
	r := newRig(t)
	c, _ := r.idle()
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := call(c, "id", "-u")
	in.Exec.User = "ann"
	cmd, done := r.execCmd(in)
	defer done()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != 0 {
		t.Errorf("the file belongs to %d now (%v)", st.Uid, err)
	}
	if b, _ := os.ReadFile(f.Name()); string(b) != "1000\n" {
		t.Errorf("output %q", b)
	}
}

func TestExecEndsWithItsCommandThoughOthersHoldItsStreams(t *testing.T) {
	r := newRig(t)
	c, _ := r.idle()
	code, out, _ := r.exec(call(c, "sh", "-c", "sleep 1000 & echo done"), "")
	if code != 0 || out != "done\n" {
		t.Errorf("code %d, out %q", code, out)
	}
	big := call(c, "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo end")
	if code, out, _ := r.exec(big, ""); code != 0 || len(out) != 3000004 {
		t.Errorf("code %d, %d bytes", code, len(out))
	}
}

func TestExecWithATerminal(t *testing.T) {
	r := newRig(t)
	c, _ := r.idle()
	master, slave := openPTY(t)
	in := call(c, "sh", "-c", "tty; stty size; read x; stty size; echo got $x; exit 5")
	in.Stdin, in.Exec.TTY = true, true
	cmd, done := r.execCmd(in)
	defer done()
	_ = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99})
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var seen strings.Builder
	expect := func(what string) {
		t.Helper()
		buf := make([]byte, 4096)
		for !strings.Contains(seen.String(), what) {
			n, err := master.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				t.Fatalf("waiting for %q, got %q: %v", what, seen.String(), err)
			}
		}
	}
	expect("33 99")
	_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 44, Col: 111})
	_ = cmd.Process.Signal(syscall.SIGWINCH)
	eventually(t, "the window's size arrives", func() bool {
		code, out, _ := r.exec(call(c, "sh", "-c", "stty size </dev/pts/0"), "")
		return code == 0 && out == "44 111\n"
	})
	io.WriteString(master, "word\r")
	expect("44 111")
	expect("got word")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("code %d: %q", code, seen.String())
	}
}

func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no ptys here: ", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile("/dev/pts/"+itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

func itoa(n uint32) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestExecPassesSignalsOn(t *testing.T) {
	r := newRig(t)
	c, _ := r.idle()
	cmd, done := r.execCmd(call(c, "sh", "-c", "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"))
	defer done()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(out, buf); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	rest, _ := io.ReadAll(out)
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 9 || string(rest) != "caught\n" {
		t.Errorf("code %d, out %q", cmd.ProcessState.ExitCode(), rest)
	}
}
