package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	writerLines = 1_000_000
	requests    = 500
	turn        = 25    // requests that are made before it is the other's turn
	firstPort   = 18080 // of the first runner; they are up at the same time
)

var (
	writerFile = "services:\n  s1: {image: busybox, command: [cat, /lines], volumes: ['./lines:/lines:ro']}\n"
	serverFile = "services:\n  s1: {image: busybox, command: [httpd, -f, -p, '80', -h, /etc], stop_signal: SIGKILL, ports: ['127.0.0.1:PORT:80']}\n"
)

// throughPort asks the published port and, in turns with it, the container
// itself, where what stands between is the kernel's bridge alone; atOnce is how
// long that took.
func throughPort(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, r.words[0], append(r.words[1:len(r.words):len(r.words)], "exec", "-T", "s1", "hostname", "-i")...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, r.env, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("the container's address: %w", err)
	}
	urls := [2]string{
		fmt.Sprintf("http://127.0.0.1:%d/passwd", r.port),
		"http://" + strings.Fields(string(out))[0] + "/passwd",
	}
	var took [2]time.Duration
	for i := range 2 * requests / turn {
		d, err := ask(ctx, urls[i%2], turn)
		if err != nil {
			return 0, err
		}
		took[i%2] += d
	}
	r.beside = took[1]
	return took[0], nil
}

// beside tells what the step before it has measured beside.
func beside(_ context.Context, r *runner, _ string) (time.Duration, error) { return r.beside, nil }

// ask makes n requests one after the other, each over a connection of its own,
// once the server answers at all.
func ask(ctx context.Context, url string, n int) (time.Duration, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		reply, err := client.Do(req)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		_, err = io.Copy(io.Discard, reply.Body)
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := get(); err == nil {
			break
		} else if time.Now().After(deadline) {
			return 0, errors.Join(errors.New("nobody answers"), err)
		}
	}
	start := time.Now()
	for range n {
		if err := get(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// writeLines makes what the service of writerFile prints: lines of 200 bytes.
func writeLines(dir string) error {
	f, err := os.Create(filepath.Join(dir, "lines"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range writerLines {
		fmt.Fprintf(w, "%07d %s\n", i, strings.Repeat("x", 191))
	}
	return w.Flush()
}

// takeLines runs the service until it has ended: all that it wrote is taken.
func takeLines(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	up, err := r.run(ctx, dir, "up", "-d")
	if err != nil {
		return 0, err
	}
	wait, err := r.run(ctx, dir, "wait", "s1")
	return up + wait, err
}
