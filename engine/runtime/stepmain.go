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

// A StepNet is a network that was made for one step.
type StepNet struct {
	NS         *os.File     // the sandbox to join
	ResolvConf []byte       // the step's /etc/resolv.conf; nil: the host's
	Close      func() error // gives everything back, NS too; called once, when the step has ended
}

// StepMain is `davit-runtime step`: it reads an engine.RunStep on descriptor
// 3, runs it on its own streams and returns the command's exit code. When
// descriptor 3 is a socket, an engine.StepResult goes back through it: that
// tells a command that failed from one that could not be run (125). SIGTERM,
// SIGINT and the end of the caller at the other end of that socket kill the
// command. run is the run directory, whose compiled filters the step uses (empty:
// it compiles its own). network makes the network of a step that asks for one; nil: such
// steps bring a descriptor of theirs.
func StepMain(run string, network func(context.Context, engine.RunStep) (*StepNet, error)) int {
	var step engine.RunStep
	hush()
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
	l := StepLaunch{Step: step, Run: run, Stdout: os.Stdout, Stderr: os.Stderr}
	if step.NetNSFD > callFD {
		unix.CloseOnExec(step.NetNSFD)
		l.NetNS = os.NewFile(uintptr(step.NetNSFD), "netns")
	}
	code, err := runIn(ctx, l, network)
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

// runIn runs a step in the network it asks for.
func runIn(ctx context.Context, l StepLaunch, network func(context.Context, engine.RunStep) (*StepNet, error)) (code int, err error) {
	if l.Step.Network != "" || l.NetNS != nil || network == nil {
		return RunStep(ctx, l)
	}
	n, err := network(ctx, l.Step)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	l.NetNS, l.ResolvConf = n.NS, n.ResolvConf
	return RunStep(ctx, l)
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
