package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// A Runner runs a build's commands, each in a davit-runtime of its own.
type Runner struct {
	Program string // davit-runtime
	Layout  store.Layout
}

// RunStep implements ops.Runner: the step goes through a socket on descriptor
// 3, and how it ended comes back through it.
func (r Runner) RunStep(ctx context.Context, s engine.RunStep, stdout, stderr io.Writer) (int, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "step"), os.NewFile(uintptr(fds[1]), "step")
	defer ours.Close()
	cmd := exec.CommandContext(ctx, r.Program, "step", r.Layout.Data, r.Layout.Run)
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{theirs}
	// The command dies with the step's process, however that is killed; and a
	// Ctrl-C on the terminal reaches it through ctx alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", r.Program, err)
	}
	res, serr := converse(ours, body)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case serr != nil:
		_ = exec.Command(r.Program, "step", r.Layout.Data, r.Layout.Run, "clean").Run()
		return 0, errors.Join(serr, err)
	case res.Error != "":
		return 0, errors.New(res.Error)
	}
	return res.Code, nil
}

// converse sends a step and reads how it ended.
func converse(f *os.File, body []byte) (engine.StepResult, error) {
	var res engine.StepResult
	if _, err := f.Write(body); err != nil {
		return res, fmt.Errorf("send build step: %w", err)
	}
	if err := unix.Shutdown(int(f.Fd()), unix.SHUT_WR); err != nil {
		return res, os.NewSyscallError("shutdown", err)
	}
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&res); err != nil {
		return res, fmt.Errorf("build step ended without a word: %w", err)
	}
	return res, nil
}

// Settle brings the layers that were built to the disk in a process of its
// own, which nobody waits for: until then another boot does not believe them.
func (r Runner) Settle() error {
	cmd := exec.Command(r.Program, "step", r.Layout.Data, r.Layout.Run, "settle")
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", r.Program, err)
	}
	return cmd.Process.Release()
}
