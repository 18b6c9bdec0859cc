package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/images"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/residue"
)

// Reference is the project that is killed: three services, two networks, a
// volume, a health check, a published port, a restart policy.
const Reference = `
services:
  db:
    image: busybox
    command: sh -c 'echo up; exec sleep 1000d'
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    networks: [back]
    healthcheck: {test: [CMD, "true"], interval: 1s, start_period: 10s, start_interval: 20ms}
  web:
    image: busybox
    command: sh -c 'echo served >/index.html; exec httpd -f -p 80 -h /'
    stop_signal: SIGKILL
    ports: ["127.0.0.1:18099:80"]
    networks: [front, back]
    depends_on: {db: {condition: service_healthy}}
  worker:
    image: busybox
    command: sh -c 'while :; do echo tick; sleep 0.2; done'
    stop_signal: SIGKILL
    restart: always
    networks: [back]
    depends_on: [web]
networks: {front: {}, back: {}}
volumes: {data: {}}
`

// A World is one davit installation with the reference project, in the network
// namespace of the goroutine that made it.
type World struct {
	Root, Dir, Project string

	// Patience is how long one command may take before it counts as hanging.
	Patience time.Duration

	bin    string
	disk   *Disk // nil: the root lies on the host's own
	before residue.Snapshot
}

// NewWorld makes a world with busybox in its store and the reference project in
// dir. Its goroutine stays locked to its thread, in a network namespace of its
// own.
func NewWorld(project, dir string) (*World, error) {
	w, err := unfurnished(project, dir)
	if err != nil {
		return nil, err
	}
	return w, w.renew()
}

// unfurnished makes a world that has no root yet, and so nothing in it.
func unfurnished(project, dir string) (*World, error) {
	bin, err := kernel.Binaries()
	if err != nil {
		return nil, err
	}
	if err := kernel.Isolate(); err != nil {
		return nil, err
	}
	// Cgroups have no root: a run of these tests beside this one has other names.
	w := &World{Project: fmt.Sprintf("%s-%d", project, os.Getpid()), Dir: dir, Patience: patience, bin: bin}
	if err := w.Compose(Reference); err != nil {
		return nil, err
	}
	return w, w.archive()
}

// Compose writes the project's file.
func (w *World) Compose(content string) error {
	return os.WriteFile(w.path("compose.yaml"), []byte(content), 0o644)
}

// archive writes the image that is loaded into Dir.
func (w *World) archive() error {
	cache, ims, err := images.Ready(context.Background(), os.Stderr, "busybox")
	if err != nil {
		return err
	}
	f, err := os.Create(w.path("busybox.tar"))
	if err != nil {
		return err
	}
	defer f.Close()
	return cache.WriteArchive(f, ims...)
}

func (w *World) path(name string) string { return filepath.Join(w.Dir, name) }

// renew begins with an empty root.
func (w *World) renew() error {
	if err := w.Close(); err != nil {
		return err
	}
	var err error
	if w.Root, err = kernel.Root(); err != nil {
		return err
	}
	f, err := os.Open(w.path("busybox.tar"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := image.Open(w.Layout()).Load(context.Background(), f); err != nil {
		return err
	}
	w.before, err = w.place().Take()
	return err
}

// Close ends what still runs and removes the root.
func (w *World) Close() error {
	if w.Root == "" {
		return nil
	}
	if w.disk != nil {
		err := w.disk.Close()
		w.dropGroups()
		return err
	}
	return kernel.Scrub(w.Root)
}

// Layout is where this davit keeps its files.
func (w *World) Layout() store.Layout {
	return store.Layout{Data: filepath.Join(w.Root, "data"), Run: filepath.Join(w.Root, "run")}
}

func (w *World) place() residue.Place {
	return residue.Place{Root: w.Root, Projects: []string{w.Project}}
}

// patience is that of a new world.
const patience = 2 * time.Minute

// ErrHangs means that a command did not end.
var ErrHangs = errors.New("does not end")

// command is a davit command of this project.
func (w *World) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "davit"), append([]string{"-p", w.Project}, args...)...)
	w.place1(cmd)
	return cmd
}

func (w *World) place1(cmd *exec.Cmd) {
	cmd.Dir = w.Dir
	cmd.Env = append(os.Environ(), "DAVIT_ROOT="+w.Root)
	cmd.WaitDelay = patience / 4 // for what a killed one has left behind
}

// Davit runs a command and returns what it printed.
func (w *World) Davit(args ...string) (string, error) { return w.later(args...)() }

// later starts a command from this goroutine's namespaces and returns what
// waits for it.
func (w *World) later(args ...string) func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.Patience)
	cmd := w.command(ctx, args...)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	begun := cmd.Start()
	return func() (string, error) {
		defer cancel()
		err := begun
		if err == nil {
			err = cmd.Wait()
		}
		if ctx.Err() != nil {
			err = ErrHangs
		}
		if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			return out.String(), fmt.Errorf("davit %s: %w\n%s", strings.Join(args, " "), err, out.String())
		}
		return out.String(), nil
	}
}

// Residue says what is there that was not before; empty when all is clean.
func (w *World) Residue() ([]string, error) { return w.place().Wait(w.before) }

// Process returns the pid of the project's anchor or keeper; 0: none.
func (w *World) Process(kind string) int {
	if all := w.processes(kind); len(all) > 0 {
		return all[0]
	}
	return 0
}

func (w *World) count(kind string) int { return len(w.processes(kind)) }

func (w *World) processes(kind string) []int {
	return kernel.Pids(kind, w.Layout().Data, w.Layout().Run, w.Project)
}

// States are the project's containers with their states, by name.
func (w *World) States() (map[string]engine.Snapshot, error) {
	ids, err := store.Names(w.Layout().Containers(w.Project))
	if err != nil {
		return nil, err
	}
	all := make(map[string]engine.Snapshot)
	for _, id := range ids {
		c, err := w.Layout().LoadContainer(w.Project, id)
		if errors.Is(err, store.ErrNotFound) {
			continue // begun, and never recorded
		}
		if err != nil {
			return nil, err
		}
		if _, twice := all[c.Name]; twice {
			return nil, fmt.Errorf("two containers are named %s", c.Name)
		}
		s, err := w.Layout().LoadState(w.Project, id)
		if err != nil {
			return nil, err
		}
		all[c.Name] = engine.Snapshot{Container: *c, State: *s}
	}
	return all, nil
}

// IsUp says what is missing of a project that is up whole.
func (w *World) IsUp() error {
	all, err := w.States()
	if err != nil {
		return err
	}
	names := []string{"db-1", "web-1", "worker-1"}
	for _, n := range names {
		s, ok := all[w.Project+"-"+n]
		switch {
		case !ok:
			return fmt.Errorf("%s is not there", n)
		case s.State.Status != engine.Running:
			return fmt.Errorf("%s is %s (%s)", n, s.State.Status, s.State.Error)
		case !runs(s.State):
			return fmt.Errorf("%s is recorded as running, and does not", n)
		}
	}
	for n := range all {
		if !slices.Contains(names, strings.TrimPrefix(n, w.Project+"-")) && !strings.Contains(n, "-run-") {
			return fmt.Errorf("there is a container %s", n)
		}
	}
	return w.answers()
}

func runs(s engine.State) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return len(f) > 19 && f[19] == fmt.Sprint(s.StartTicks) && f[0] != "Z"
}

// answers asks the published port and, inside, for a name.
func (w *World) answers() error {
	deadline := time.Now().Add(patience)
	for {
		said, err := get("127.0.0.1:18099")
		if err == nil && strings.Contains(said, "served") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("published port: %q, %v", said, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// get asks over HTTP from this goroutine's network namespace.
func get(address string) (string, error) {
	c, err := net.DialTimeout("tcp4", address, patience/8) // the caller asks again
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience / 8))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// Log is what anchor and keeper had to say, its last lines.
func (w *World) Log() string {
	b, _ := os.ReadFile(w.Layout().KeeperLog(w.Project))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(slices.Clone(lines[max(0, len(lines)-12):]), "\n")
}
