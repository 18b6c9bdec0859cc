package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/keeper/wire"
)

// Prepare brings the world to where a verb begins.
func (w *World) Prepare(v Verb) error {
	switch v.Base {
	case "nothing":
		return nil
	case "bare":
		_, err := w.Davit("image", "rm", "-f", "busybox:latest", "busybox:1")
		return err
	}
	if _, err := w.Davit("up", "-d"); err != nil {
		return err
	}
	if v.Base == "stopped" {
		_, err := w.Davit("stop")
		return err
	}
	return nil
}

// Trace writes every system call of the victim while the verb runs to a file.
func (w *World) Trace(v Verb, who Victim, file string) error {
	if err := w.Prepare(v); err != nil {
		return err
	}
	_, err := w.traced(v, who, file, nil)
	return err
}

// Kill runs the verb and kills the victim at the point; hit is false when the
// verb was over before.
func (w *World) Kill(p Point) (hit bool, err error) {
	if err := w.Prepare(p.Verb); err != nil {
		return false, fmt.Errorf("before: %w", err)
	}
	file := w.path("trace")
	out, err := w.traced(p.Verb, p.Victim, file, []string{
		"-e", "trace=" + p.Syscall, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", p.Syscall, p.N),
	})
	if err != nil {
		return false, fmt.Errorf("%w\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	return strings.Contains(string(b), "killed by SIGKILL"), err
}

// traced runs a verb with the victim under strace.
func (w *World) traced(v Verb, who Victim, file string, options []string) (string, error) {
	options = append([]string{"-f", "-o", file}, options...)
	switch who {
	case Command:
		return w.below(v, w.Patience, append(options, "-b", "execve"))
	case Anyone:
		// Every keeper that the anchor starts is a victim anew: the verb may
		// never get through, which says nothing.
		out, err := w.below(v, ample, options)
		if errors.Is(err, ErrHangs) {
			err = nil
		}
		return out, err
	}
	pid := w.Process(string(who))
	if pid == 0 {
		return "", fmt.Errorf("there is no %s", who)
	}
	stop, err := attach(pid, append(options, "-b", "execve"))
	if err != nil {
		return "", err
	}
	defer stop()
	out, err := w.Davit(v.Args...)
	if errors.Is(err, ErrHangs) {
		return out, err
	}
	return out, nil
}

// ample is how long a verb may take of which more than the command is killed, or
// held up by strace.
const ample = 10 * time.Second

// below runs the verb as strace's child. strace is told to let go when the
// command is over, since anchor and keeper may be under it too.
func (w *World) below(v Verb, within time.Duration, options []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	davit := w.command(ctx, v.Args...)
	pidfile := w.path("pid")
	_ = os.Remove(pidfile)
	args := append(options, "--")
	if !slices.Contains(options, "-b") { // what execs is let go, the shell would be too
		args = append(args, "/bin/sh", "-c", `echo $$ >"$0"; exec "$@"`, pidfile)
	}
	cmd := exec.Command("strace", append(args, davit.Args...)...)
	w.place1(cmd)
	out, err := os.Create(w.path("said"))
	if err != nil {
		return "", err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	err = untilGone(ctx, pidfile, ended)
	_ = cmd.Process.Signal(unix.SIGTERM) // strace detaches
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
	said, _ := os.ReadFile(out.Name())
	return string(said), err
}

// untilGone waits for the process whose pid the file names, or for strace.
func untilGone(ctx context.Context, pidfile string, ended <-chan struct{}) error {
	for {
		var pid int
		if b, err := os.ReadFile(pidfile); err == nil {
			_, _ = fmt.Sscanf(string(b), "%d", &pid)
		}
		if pid > 0 {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || strings.Contains(string(b), ") Z ") {
				return nil
			}
		}
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return ErrHangs
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// attach traces a running process until stop is called.
func attach(pid int, options []string) (stop func(), err error) {
	cmd := exec.Command("strace", append(options, "-p", fmt.Sprint(pid))...)
	r, pw, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stderr = pw // "Process N attached"
	err = cmd.Start()
	pw.Close()
	if err != nil {
		return nil, err
	}
	b := make([]byte, 256)
	if _, err := r.Read(b); err != nil {
		return nil, fmt.Errorf("strace: %w", err)
	}
	go func() { // strace must not die of a closed pipe
		for {
			if _, err := r.Read(make([]byte, 256)); err != nil {
				return
			}
		}
	}()
	// strace that attaches while the victim forks may leave the child stopped
	// for good (seen with 6.1: the parent waits in vfork, strace in wait4). Its
	// own end sets everybody free, and a davit that hangs by itself still does.
	free := time.AfterFunc(ample, func() { _ = cmd.Process.Kill() })
	return func() {
		free.Stop()
		_ = cmd.Process.Signal(unix.SIGINT)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	}, nil
}

// settled waits until no keeper is about to be started by its anchor.
func (w *World) settled() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		c, err := wire.Dial(ctx, w.Layout(), w.Project)
		if err != nil {
			return
		}
		err = c.Call(ctx, wire.Request{Op: wire.OpHello}, nil)
		c.Close()
		if err == nil {
			return
		}
	}
}
