package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/tests/images"
)

// A runner is one compose-compatible CLI.
type runner struct {
	name  string
	words []string // the command and its leading words
	env   []string
	root  string // where davit keeps its data and state
	port  int    // where its web server is published

	beside time.Duration // what a step measured in turns with what it is about
}

// newRunners prepares davit, with a root of its own below dir, and the peer
// when there is one: both get busybox.
func newRunners(ctx context.Context, o options, dir string) ([]*runner, error) {
	var all []*runner
	for _, line := range []string{o.cli, o.peer} {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		root := filepath.Join(dir, "root")
		r := &runner{name: filepath.Base(words[0]), words: words, root: root, env: append(os.Environ(), "DAVIT_ROOT="+root), port: firstPort + len(all)}
		if err := r.load(ctx, "busybox"); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// load gives the runner images of tests/images.
func (r *runner) load(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	cache, list, err := images.Ready(ctx, os.Stderr, names...)
	if err != nil {
		return err
	}
	load := r.engine(ctx, "load")
	load.Stderr = os.Stderr
	if err := cache.Feed(load, list...); err != nil {
		return fmt.Errorf("%s load: %w", r.name, err)
	}
	return nil
}

// engine is a command on images and caches: docker compose's are docker's.
func (r *runner) engine(ctx context.Context, args ...string) *exec.Cmd {
	words := r.words
	if words[len(words)-1] == "compose" {
		words = words[:len(words)-1]
	}
	cmd := exec.CommandContext(ctx, words[0], append(words[1:len(words):len(words)], args...)...)
	cmd.Env = r.env
	return cmd
}

// run runs the runner in a project's directory and returns how long it took.
func (r *runner) run(ctx context.Context, dir string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, r.words[0], append(r.words[1:len(r.words):len(r.words)], args...)...)
	cmd.Dir, cmd.Env = dir, r.env
	// Beside the project, which is also the context of its builds.
	log, err := os.Create(dir + ".output")
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log // a file: no goroutine of ours in the measured time
	start := time.Now()
	err = cmd.Run()
	took := time.Since(start)
	if err != nil {
		return took, fmt.Errorf("%s %s: %w\n%s", r.name, strings.Join(args, " "), err, tail(log.Name()))
	}
	return took, nil
}

// tail returns the last lines of a runner's output.
func tail(path string) string {
	out, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// project writes a scenario's compose file and returns its directory.
func project(dir string, r *runner, s scenario) (string, error) {
	name := strings.NewReplacer(" ", "", ":", "").Replace(s.name) + strings.ToLower(r.name)
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if s.example != "" {
		return dir, fromExample(dir, r, s)
	}
	text := s.file
	if text == "" {
		text = idleServices(s.services)
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	text = strings.NewReplacer("PORT", strconv.Itoa(r.port), "BENCH", self).Replace(text)
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o644); err != nil || s.prepare == nil {
		return dir, err
	}
	return dir, s.prepare(dir)
}

// fromExample makes a project of one of examples/.
func fromExample(dir string, r *runner, s scenario) error {
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("examples", s.example))); err != nil {
		return err
	}
	env := strings.ReplaceAll(s.env, "PORT=PORT", "PORT="+strconv.Itoa(r.port))
	return os.WriteFile(filepath.Join(dir, ".env"), []byte(env), 0o644)
}

func idleServices(n int) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "  s%d: {image: busybox, command: sleep 3600, stop_signal: SIGKILL}\n", i)
	}
	return b.String()
}
