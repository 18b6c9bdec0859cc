package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// exitStepFailed is the exit code of a step that could not be run at all.
const exitStepFailed = 125

// StepMain is `davit-runtime step`: it reads an engine.RunStep on descriptor
// 3, runs it on its own streams and returns the command's exit code. When
// descriptor 3 is a socket, an engine.StepResult goes back through it: that
// tells a command that failed from one that could not be run (125). SIGTERM,
// SIGINT and the end of the caller at the other end of that socket kill the
// command.
func StepMain() int {
	var step engine.RunStep
	f, err := readCall(&step)
	if err != nil {
		complain(err)
		return exitStepFailed
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go watchCaller(cancel)
	l := StepLaunch{Step: step, Stdout: os.Stdout, Stderr: os.Stderr}
	if step.NetNSFD > callFD {
		unix.CloseOnExec(step.NetNSFD)
		l.NetNS = os.NewFile(uintptr(step.NetNSFD), "netns")
	}
	code, err := RunStep(ctx, l)
	if err == nil {
		answer(f, engine.StepResult{Code: code})
		return code
	}
	complain(err)
	if code := ExitCode(err); code != 1 {
		answer(f, engine.StepResult{Code: code}) // as a shell says it: 126, 127
		return code
	}
	answer(f, engine.StepResult{Code: exitStepFailed, Error: err.Error()})
	return exitStepFailed
}

// watchCaller calls gone when the other end of the request's socket is closed;
// a pipe there says nothing about its writer.
func watchCaller(gone func()) {
	if _, err := unix.GetsockoptInt(callFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return
	}
	fds := []unix.PollFd{{Fd: callFD}} // a hang-up needs no asking for
	for {
		n, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n == 1 && fds[0].Revents&unix.POLLHUP != 0 {
			gone()
		}
		return
	}
}

func answer(f *os.File, r engine.StepResult) {
	if b, err := json.Marshal(r); err == nil {
		_, _ = f.Write(b)
	}
}
