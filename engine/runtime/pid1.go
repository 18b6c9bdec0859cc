package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// initPath returns the executable to show in a container as its PID 1: a copy
// of this one in the run directory, so that no container ever sees the file
// that is installed (CVE-2019-5736).
func initPath(l store.Layout, wanted bool) (string, error) {
	if !wanted {
		return "", nil
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("open own executable: %w", err)
	}
	defer self.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(self.Fd()), &st); err != nil {
		return "", fmt.Errorf("stat own executable: %w", err)
	}
	name := filepath.Join(l.Run, fmt.Sprintf("init-%x-%x-%x", st.Ino, st.Size, st.Mtim.Nano()))
	if have, err := os.Stat(name); err == nil && have.Size() == st.Size {
		return name, nil
	}
	if err := copyExecutable(self, name); err != nil {
		return "", fmt.Errorf("copy init: %w", err)
	}
	return name, nil
}

func copyExecutable(from io.Reader, name string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".init-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	err = errors.Join(err, f.Chmod(0o555), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Pid1Main is `davit-runtime pid1 -- COMMAND…`: the first process of a
// container with init: true. It runs the command, passes every signal on to
// it, reaps whatever is orphaned, and ends as the command ends.
func Pid1Main(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "init: no command")
		return ExitNotFound
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals) // all that can be caught
	name, err := exec.LookPath(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		return spawnCode(err)
	}
	child, err := os.StartProcess(name, args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: isTerminal(0), Ctty: 0},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		return spawnCode(err)
	}
	pid := child.Pid
	_ = child.Release()
	for s := range signals {
		switch s := s.(syscall.Signal); s {
		case syscall.SIGCHLD:
			if code, ended := reapAll(pid); ended {
				return code
			}
		case syscall.SIGURG, syscall.SIGPIPE: // Go's own
		default:
			_ = syscall.Kill(pid, s)
		}
	}
	return 1
}

// reapAll takes every zombie, and says how pid ended if it was among them.
func reapAll(pid int) (code int, ended bool) {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || got <= 0 {
			return code, ended
		}
		if got == pid && (ws.Exited() || ws.Signaled()) {
			code, ended = exitStatus(ws), true
		}
	}
}

func exitStatus(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func spawnCode(err error) int {
	if errors.Is(err, os.ErrPermission) {
		return ExitCannotRun
	}
	return ExitNotFound
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
