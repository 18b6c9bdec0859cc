package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// callFD is where `davit-runtime exec` and `davit-runtime step` read what they
// are to do.
const callFD = 3

// maxCall bounds a request on callFD, in bytes.
const maxCall = 16 << 20

// readCall reads the JSON of one request and leaves the descriptor open.
func readCall(v any) (*os.File, error) {
	f := os.NewFile(callFD, "call")
	if f == nil {
		return nil, fmt.Errorf("no request on descriptor %d", callFD)
	}
	unix.CloseOnExec(callFD)
	b, err := io.ReadAll(io.LimitReader(f, maxCall))
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	return f, nil
}

// ExecMain is `davit-runtime exec`: it reads an engine.ExecCall on descriptor
// 3, runs the process and copies its streams from and to its own descriptors,
// passes signals and the size of the terminal on, and returns the process's
// exit code; 126 or 127 when the command cannot be run.
func ExecMain([]string) int {
	var call engine.ExecCall
	hush()
	f, err := readCall(&call)
	if err != nil {
		return complain(err)
	}
	f.Close()
	s := &session{call: call}
	code, err := s.run()
	if err != nil {
		return complain(err)
	}
	return code
}

// hush keeps libcontainer's own log from the user's streams; what matters of
// it is in the errors it returns.
func hush() { logrus.SetOutput(io.Discard) }

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "davit:", err)
	return ExitCode(err)
}

// A session is one process and the user in front of it.
type session struct {
	call   engine.ExecCall
	child  *Child
	input  *os.File   // where the user's input goes
	output []*outflow // what comes back
	ends   []*os.File // the process's ends of the pipes, ours to close
}

func (s *session) run() (int, error) {
	l := ExecLaunch{
		Layout:  store.Layout{Data: s.call.Data, Run: s.call.Run},
		Project: s.call.Project, ID: s.call.ID, Exec: s.call.Exec,
	}
	restore := func() {}
	switch {
	case s.call.Detach:
	case s.call.Exec.TTY:
		l.Width, l.Height = size(os.Stdin)
	default:
		if err := s.pipes(&l); err != nil {
			return 0, err
		}
	}
	child, err := Exec(context.Background(), l)
	for _, f := range s.ends {
		f.Close()
	}
	if err != nil {
		return 0, err
	}
	s.child = child
	if s.call.Detach {
		if child.Console != nil {
			// Nobody reads this terminal; a process that fills it would block.
			s.input, s.output = child.Console, []*outflow{{from: child.Console, to: io.Discard}}
			return s.attend()
		}
		return 0, nil
	}
	if c := child.Console; c != nil {
		s.input = c
		s.output = []*outflow{{from: c, to: os.Stdout}}
		if s.call.Stdin {
			restore = rawTerminal(os.Stdin)
		}
	}
	defer restore()
	return s.attend()
}

// pipes makes the three pipes of a process without a terminal.
func (s *session) pipes(l *ExecLaunch) error {
	for i, to := range []*os.File{os.Stdout, os.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		s.ends = append(s.ends, w)
		s.output = append(s.output, &outflow{from: r, to: to})
		if i == 0 {
			l.Stdout = w
		} else {
			l.Stderr = w
		}
	}
	if !s.call.Stdin {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.ends = append(s.ends, r)
	s.input, l.Stdin = w, r
	return nil
}

// attend moves bytes and signals until the process has ended and all it wrote
// has been passed on.
func (s *session) attend() (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	if s.call.Stdin && s.input != nil {
		go func() {
			_, _ = io.Copy(s.input, os.Stdin)
			if s.child.Console == nil {
				s.input.Close()
			}
		}()
	}
	for _, o := range s.output {
		o.begin()
	}
	type end struct {
		code int
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		code, err := s.child.Wait()
		ended <- end{code, err}
	}()
	for {
		select {
		case sig := <-signals:
			s.pass(sig.(syscall.Signal))
		case e := <-ended:
			for _, o := range s.output {
				o.finish()
			}
			return e.code, e.err
		}
	}
}

func (s *session) pass(sig syscall.Signal) {
	if sig == syscall.SIGWINCH {
		if s.child.Console != nil {
			if w, h := size(os.Stdin); w > 0 {
				_ = unix.IoctlSetWinsize(int(s.child.Console.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: h, Col: w})
				_ = unix.SetNonblock(int(s.child.Console.Fd()), true) // Fd made it blocking
			}
		}
		return
	}
	_ = unix.Kill(s.child.PID, sig)
}

// An outflow copies what a process writes. A process that has ended may leave
// others behind that hold its streams open, so its end is not theirs: what was
// written until then is passed on, and no more is waited for.
type outflow struct {
	from *os.File
	to   io.Writer
	done chan struct{}
}

func (o *outflow) begin() {
	o.done = make(chan struct{})
	go func() {
		defer close(o.done)
		// Hide the files' own ReadFrom and WriteTo: a deadline must end this.
		_, _ = io.Copy(struct{ io.Writer }{o.to}, struct{ io.Reader }{o.from})
	}()
}

func (o *outflow) finish() {
	_ = o.from.SetReadDeadline(time.Unix(1, 0))
	<-o.done
	Drain(o.from, o.to)
}

// Drain passes on what lies in a pipe or terminal, as much as that can hold, and
// waits for no more. It reads though the file's deadline is over.
func Drain(from *os.File, to io.Writer) {
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	left := 1 << 20
	_ = raw.Control(func(fd uintptr) {
		if size, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil {
			left = size
		}
	})
	for buf := make([]byte, 64<<10); left > 0; {
		n := 0
		_ = raw.Control(func(fd uintptr) {
			for {
				n, err = unix.Read(int(fd), buf)
				if !errors.Is(err, unix.EINTR) {
					return
				}
			}
		})
		if err != nil || n <= 0 {
			return
		}
		left -= n
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
