package residue_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/davit-run/davit/tests/residue"
)

// waits is set in the environment of a process that stands for a forked one.
const waits = "RESIDUE_WAITS"

func TestMain(m *testing.M) {
	if os.Getenv(waits) != "" {
		_, _ = os.Stdout.WriteString("here")
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	os.Exit(m.Run())
}

// What this process forks beside, for another test, holds all that this one had
// open until it executes its program: it is nobody's residue. Here one with our
// arguments stands for it.
func TestAForkedProcessIsNotCounted(t *testing.T) {
	place := residue.Place{Root: t.TempDir()}
	for _, born := range []bool{false, true} {
		cmd := &exec.Cmd{Path: "/proc/self/exe", Args: os.Args, Dir: place.Root, Env: append(os.Environ(), waits+"=1")}
		if born {
			cmd.Args = append([]string{"davit"}, os.Args...)
		}
		in, err := cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = out.Read(make([]byte, 4))
		must(t, err)
		pids, err := place.PIDs()
		must(t, err)
		if (len(pids) == 1) != born {
			t.Errorf("processes %v, of which ours is %d", pids, cmd.Process.Pid)
		}
		in.Close()
		must(t, cmd.Wait())
	}
}
