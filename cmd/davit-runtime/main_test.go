package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/tests/kernel"
)

// TestMain lets the test binary stand in for davit-runtime: a link of that
// name leads to it, first in PATH.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		libcontainer.Init()
	}
	if len(os.Args) > 2 && os.Args[1] == "print" {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, unix.SIGTERM)
		rate, _ := strconv.Atoi(os.Args[2])
		os.Exit(printMain(rate, stop))
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(run(os.Args[1:]))
	}
	if os.Geteuid() != 0 {
		fmt.Println("davit-runtime: its tests need root; skipped")
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "davit-runtime-test-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, wire.Program))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return m.Run()
}

// A lab is one project in an installation of its own, and in a network namespace
// of its own: nobody else's bridges and ports are there.
type lab struct {
	t       *testing.T
	ctx     context.Context
	layout  store.Layout
	project string
	keeper  *wire.Client
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if err := kernel.Isolate(); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	layout, err := store.Locate(root)
	if err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	patience := 5 * time.Minute // for a whole test
	if os.Getenv("DAVIT_LONG") != "" {
		patience = 20 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	l := &lab{t: t, ctx: ctx, layout: layout, project: "t" + hex.EncodeToString(b[:])}
	l.busybox()
	client, err := wire.Ensure(ctx, layout, l.project)
	if err != nil {
		t.Fatal(err)
	}
	l.keeper = client
	t.Cleanup(func() {
		l.down()
		client.Close()
		cancel()
		if t.Failed() {
			log, _ := os.ReadFile(layout.KeeperLog(l.project))
			t.Logf("keeper.log:\n%s", log)
		}
	})
	return l
}

// busybox makes a layer of one program and its names.
func (l *lab) busybox() {
	l.t.Helper()
	program, err := exec.LookPath("busybox")
	if err != nil {
		l.t.Skip("busybox is not installed (apt-get install busybox-static)")
	}
	bin := filepath.Join(l.layout.LayerFS("base"), "bin")
	l.must(os.MkdirAll(bin, 0o755))
	b, err := os.ReadFile(program)
	l.must(err)
	l.must(os.WriteFile(filepath.Join(bin, "busybox"), b, 0o755))
	for _, name := range []string{"sh", "sleep", "echo", "cat", "seq", "true", "false", "nslookup", "wget", "nc", "httpd", "ip", "hostname", "ps", "kill", "dd"} {
		l.must(os.Symlink("busybox", filepath.Join(bin, name)))
	}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// create records a container that runs a shell line.
func (l *lab) create(name, line string, change ...func(*engine.Container)) *engine.Container {
	l.t.Helper()
	var id [32]byte
	_, _ = rand.Read(id[:])
	c := &engine.Container{ID: hex.EncodeToString(id[:]), Name: l.project + "-" + name, Project: l.project,
		Created: time.Now(), Layers: []string{"base"},
		Spec: engine.Spec{Image: "busybox", Command: []string{"/bin/sh", "-c", line}, NetworkMode: "none",
			Env: map[string]string{"PATH": "/bin"}}}
	for _, f := range change {
		f(c)
	}
	l.must(l.layout.SaveContainer(c))
	return c
}

func (l *lab) call(req wire.Request) (wire.Reply, error) {
	var last wire.Reply
	err := l.keeper.Call(l.ctx, req, func(r wire.Reply, files []*os.File) error {
		for _, f := range files {
			f.Close()
		}
		last = r
		return nil
	})
	return last, err
}

func (l *lab) do(op string, c *engine.Container) wire.Reply {
	l.t.Helper()
	r, err := l.call(wire.Request{Op: op, ID: c.ID})
	if err != nil {
		l.t.Fatalf("%s %s: %v", op, c.Name, err)
	}
	return r
}

// down removes every container and network, and waits until keeper and anchor
// have gone.
func (l *lab) down() {
	ids, _ := store.Names(l.layout.Containers(l.project))
	for _, id := range ids {
		if _, err := l.call(wire.Request{Op: wire.OpRemove, ID: id, Volumes: true}); err != nil {
			l.t.Errorf("remove %s: %v", id, err)
		}
	}
	nets, _ := store.Names(l.layout.Networks())
	for _, n := range nets {
		if _, err := l.call(wire.Request{Op: wire.OpNetRemove, Network: n}); err != nil {
			l.t.Errorf("remove network %s: %v", n, err)
		}
	}
	if _, err := l.call(wire.Request{Op: wire.OpShutdown}); err != nil && !errors.Is(err, wire.ErrNoKeeper) {
		l.t.Errorf("shutdown: %v", err)
	}
	l.eventually("keeper and anchor are gone", func() bool {
		_, err := os.Stat(l.layout.RunProject(l.project))
		return os.IsNotExist(err) && len(l.processes()) == 0
	})
}

// withoutKeeper kills the keeper and does what no other one must meet: the
// anchor starts the next one afterwards.
func (l *lab) withoutKeeper(do func()) {
	l.t.Helper()
	ps := l.processes()
	kernel.Held(l.t, ps["anchor"], func() {
		l.must(unix.Kill(ps["keeper"], unix.SIGKILL))
		lock, err := store.Acquire(l.ctx, l.layout.KeeperLock(l.project))
		l.must(err)
		defer lock.Release()
		do()
	})
}

// processes are those of this lab's anchor and keeper.
func (l *lab) processes() map[string]int {
	found := make(map[string]int)
	for _, kind := range []string{"anchor", "keeper"} {
		for _, pid := range kernel.Pids(kind, l.layout.Data, l.layout.Run, l.project) {
			found[kind] = pid
		}
	}
	return found
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	kernel.Eventually(l.t, time.Minute, what, ok)
}

func (l *lab) state(c *engine.Container) *engine.State {
	l.t.Helper()
	s, err := l.layout.LoadState(l.project, c.ID)
	l.must(err)
	return s
}

// output is what the container has printed.
func (l *lab) output(c *engine.Container) string {
	l.t.Helper()
	r, err := journal.Open(filepath.Join(l.layout.Container(l.project, c.ID), "log"), journal.ReadOptions{Tail: -1})
	l.must(err)
	defer r.Close()
	var b strings.Builder
	for {
		line, err := r.Next(l.ctx)
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		l.must(err)
		if line.Stream != "notice" {
			b.Write(line.Text)
			b.WriteByte('\n')
		}
	}
}

// halt stops a container without grace.
func (l *lab) halt(c *engine.Container) {
	l.t.Helper()
	none := engine.Duration(0)
	if _, err := l.call(wire.Request{Op: wire.OpStop, ID: c.ID, Timeout: &none}); err != nil {
		l.t.Fatal(err)
	}
}
