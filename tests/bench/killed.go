package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// restartFile is a service that writes down each of its starts.
const restartFile = `services:
  s1:
    image: busybox
    command: [sh, -c, 'echo >> /book/starts; exec sleep 3600']
    stop_signal: SIGKILL
    restart: always
    volumes: ['./book:/book']
`

func makeBook(dir string) error { return os.Mkdir(filepath.Join(dir, "book"), 0o755) }

// killed kills the process of a service and waits until the next one runs.
func killed(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	starts := func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "book", "starts"))
		return len(b)
	}
	pid, err := pidOf(ctx, r, dir)
	if err != nil {
		return 0, err
	}
	before := starts()
	begun := time.Now()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill process %d: %w", pid, err)
	}
	err = until(ctx, "restart", func() bool { return starts() > before })
	return time.Since(begun), err
}

// pidOf is the process of the one container of a project.
func pidOf(ctx context.Context, r *runner, dir string) (int, error) {
	cmd := r.engine(ctx, "inspect", filepath.Base(dir)+"-s1-1", "--format", "{{.State.Pid}}")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("the container's process: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// memory is what the processes take that a runner keeps containers with, of
// each page their share; a MiB is a millisecond.
func memory(_ context.Context, r *runner, _ string) (time.Duration, error) {
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, dir := range pids {
		if !r.keeps(dir) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return 0, err
		}
		size, err := kernel.PSS(pid)
		if err != nil {
			return 0, err
		}
		sum += size
	}
	return time.Duration(float64(sum) / (1 << 20) * float64(time.Millisecond)), nil
}

// services are the programs that other runners keep containers with, by the
// beginning of their names.
var services = []string{"dockerd", "containerd", "docker-proxy", "podman", "conmon"}

// keeps tells whether a process, by its directory in /proc, is one of those.
func (r *runner) keeps(dir string) bool {
	if strings.HasPrefix(r.name, "davit") {
		words, err := os.ReadFile(dir + "/cmdline")
		return err == nil && bytes.HasPrefix(words, []byte("davit-runtime\x00")) && bytes.Contains(words, []byte("\x00"+r.root+"/"))
	}
	exe, err := os.Readlink(dir + "/exe")
	return err == nil && slices.ContainsFunc(services, func(name string) bool { return strings.HasPrefix(filepath.Base(exe), name) })
}
