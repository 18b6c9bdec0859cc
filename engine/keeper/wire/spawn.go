package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// Program is the name of the executable that keeper and anchor run.
const Program = "davit-runtime"

// Ensure reaches the keeper of a project and starts one, under its anchor,
// when none lives. Of several callers at once exactly one starts it.
func Ensure(ctx context.Context, layout store.Layout, project string) (*Client, error) {
	conn, err := dial(ctx, layout, project)
	if errors.Is(err, ErrNoKeeper) {
		conn, err = ensure(ctx, layout, project)
	}
	if err != nil {
		return nil, err
	}
	return &Client{layout: layout, project: project, ensure: true, idle: conn}, nil
}

func ensure(ctx context.Context, layout store.Layout, project string) (*net.UnixConn, error) {
	lock, err := store.Acquire(ctx, filepath.Join(layout.RunProject(project), "start.lock"))
	if err != nil {
		return nil, fmt.Errorf("start keeper of %s: %w", project, err)
	}
	defer lock.Release()
	conn, err := dial(ctx, layout, project)
	if !errors.Is(err, ErrNoKeeper) {
		return conn, err
	}
	if err := spawn(ctx, layout, project); err != nil {
		return nil, fmt.Errorf("start keeper of %s: %w", project, err)
	}
	return dial(ctx, layout, project)
}

// FindRuntime returns the davit-runtime that belongs to this executable: the
// one beside it, else in ../libexec/davit, else the first in PATH.
func FindRuntime() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	dir := filepath.Dir(self)
	for _, path := range []string{
		filepath.Join(dir, Program),
		filepath.Join(dir, "..", "libexec", "davit", Program),
	} {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	path, err := exec.LookPath(Program)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside %s nor in PATH: install both executables together", Program, self)
	}
	return filepath.Abs(path)
}

// spawn starts the anchor in a session and a mount namespace of its own and
// returns when its keeper listens. Nothing of the caller is inherited: no
// environment, terminal, working directory or descriptor but the readiness
// pipe, whose end says that the anchor has died.
func spawn(ctx context.Context, layout store.Layout, project string) error {
	program, err := FindRuntime()
	if err != nil {
		return err
	}
	log, err := openLog(layout.KeeperLog(project))
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	files := []*os.File{null, null, log, told}
	if mounts, err := os.Open("/proc/self/ns/mnt"); err == nil { // where binds are looked up
		defer mounts.Close()
		files = append(files, mounts)
	}
	proc, err := os.StartProcess(program, []string{Program, "anchor", layout.Data, layout.Run, project}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Cloneflags: cloneFlags()},
	})
	told.Close()
	if err != nil {
		return fmt.Errorf("run %s: %w", program, err)
	}
	go func() { _, _ = proc.Wait() }() // it outlives us, or leaves no zombie
	return await(ctx, ready, layout.KeeperLog(project))
}

// cloneFlags asks for a mount namespace where the caller may make one.
func cloneFlags() uintptr {
	if os.Geteuid() != 0 {
		return 0
	}
	return unix.CLONE_NEWNS
}

func await(ctx context.Context, ready *os.File, log string) error {
	stop := context.AfterFunc(ctx, func() { ready.Close() })
	defer stop()
	b := make([]byte, 4096)
	n, err := ready.Read(b) // the word is one write, shorter than PIPE_BUF
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for it: %w", err)
	}
	switch said := strings.TrimSpace(string(b[:n])); said {
	case "ready":
		return nil
	case "":
		return fmt.Errorf("it died before it was ready; see %s", log)
	default:
		return errors.New(said)
	}
}

// openLog opens keeper.log for appending: never through a link, and only a
// regular file (CVE-2026-53489's class).
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o710); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open log: %s is not a regular file", path)
	}
	return f, nil
}
