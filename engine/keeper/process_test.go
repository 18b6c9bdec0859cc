package keeper

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/tests/kernel"
)

// sleeper is a process that sleeps, called so; it ends with the test.
func sleeper(t *testing.T, called string) *exec.Cmd {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", `printf %s "$0" >/proc/$$/comm; echo named; read never`, called)
	cmd.Stdout = w
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if n, err := r.Read(make([]byte, 6)); n != 6 {
		t.Fatalf("the process does not say that it has its name: %v", err)
	}
	return cmd
}

func TestAProcessIsEarlyByItsName(t *testing.T) {
	if !early(sleeper(t, "runc:[2:INIT]").Process.Pid) {
		t.Error("the runtime's own process is taken for the program")
	}
	if early(sleeper(t, "program").Process.Pid) {
		t.Error("the program is taken for the runtime's own process")
	}
	if early(1 << 30) {
		t.Error("a process that is not there is early")
	}
}

func TestAProcessThatHasEndedIsLeaving(t *testing.T) {
	cmd := sleeper(t, "a (b) c")
	pid := cmd.Process.Pid
	if anchor.Leaving(pid) {
		t.Error("a process that runs is leaving")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	kernel.Eventually(t, dying, "the killed process is leaving", func() bool { return anchor.Leaving(pid) })
	_ = cmd.Wait()
	if !anchor.Leaving(pid) {
		t.Error("a process that was reaped is not leaving")
	}
}
