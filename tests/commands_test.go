package tests

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// patience is how long eventually and shows go on trying: no bound on davit, but
// when to give up, on however slow a machine.
const patience = 3 * time.Minute

// An identity tells one start of one container from every other.
type identity struct {
	id    string
	pid   int
	ticks uint64
}

// container reads what the disk knows of a container of the story's project.
func container(root, project, name string) (engine.Container, engine.State, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "data/projects", project, "containers/*"))
	if err != nil {
		return engine.Container{}, engine.State{}, err
	}
	for _, dir := range dirs {
		var c engine.Container
		if store.Read(filepath.Join(dir, "container.json"), &c) != nil || c.Name != project+"-"+name && c.Name != name {
			continue
		}
		s := engine.State{Status: engine.Created}
		if _, err := os.Stat(filepath.Join(dir, "state.json")); err == nil {
			if err := store.Read(filepath.Join(dir, "state.json"), &s); err != nil {
				return c, s, err
			}
		}
		return c, s, nil
	}
	return engine.Container{}, engine.State{}, fs.ErrNotExist
}

// state NAME STATUS
func state(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: state NAME STATUS")
	}
	err := isState(ts, args[0], args[1])
	if neg && err == nil {
		ts.Fatalf("%s is %s", args[0], args[1])
	}
	if !neg {
		ts.Check(err)
	}
}

func isState(ts *testscript.TestScript, name, want string) error {
	c, s, err := container(of(ts).place.Root, ts.Getenv("P"), withNumber(name))
	if err != nil {
		if want == "absent" {
			return nil
		}
		return fmt.Errorf("container %s: %w", name, err)
	}
	if string(s.Status) != want {
		return fmt.Errorf("container %s is %s (exit %d, %s), want %s", c.Name, s.Status, s.ExitCode, s.Error, want)
	}
	if s.Status == engine.Running && syscall.Kill(s.PID, 0) != nil {
		return fmt.Errorf("container %s is recorded as running but its process %d is gone", c.Name, s.PID)
	}
	return nil
}

// withNumber takes web for web-1.
func withNumber(name string) string {
	if regexp.MustCompile(`-\d+$|-run-`).MatchString(name) {
		return name
	}
	return name + "-1"
}

func identify(ts *testscript.TestScript, name string) identity {
	c, s, err := container(of(ts).place.Root, ts.Getenv("P"), withNumber(name))
	if err != nil {
		ts.Fatalf("container %s: %v", name, err)
	}
	return identity{c.ID, s.PID, s.StartTicks}
}

// remember NAME
func remember(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		of(ts).remembered[name] = identify(ts, name)
	}
}

// [!] same NAME
func same(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		was, ok := of(ts).remembered[name]
		if !ok {
			ts.Fatalf("%s was not remembered", name)
		}
		if now := identify(ts, name); (now == was) == neg {
			ts.Fatalf("%s was %+v and is %+v", name, was, now)
		}
	}
}

// eventually CMD...
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually state NAME STATUS | eventually exec PROGRAM ARGS...")
	}
	attempt := func() error {
		switch args[0] {
		case "state":
			return isState(ts, args[1], args[2])
		case "exec":
			return ts.Exec(args[1], args[2:]...)
		}
		return fmt.Errorf("eventually %s: not a command it can repeat", args[0])
	}
	ts.Check(retry(attempt))
}

// shows PATTERN CMD...
func shows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: shows PATTERN PROGRAM ARGS...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	ts.Check(retry(func() error {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if pattern.MatchString(out) {
			return nil
		}
		return fmt.Errorf("%s: %v; no %q in:\n%s", strings.Join(args[1:], " "), err, args[0], out)
	}))
}

func retry(attempt func() error) error {
	deadline := time.Now().Add(patience)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		err := attempt()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", patience, err)
		}
		time.Sleep(wait)
	}
}

// images NAME...
func loadImages(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(load(context.Background(), of(ts).place.Root, args...))
	before, err := of(ts).place.Take()
	ts.Check(err)
	of(ts).before = before
}

// remember-disk
func rememberDisk(ts *testscript.TestScript, _ bool, _ []string) { of(ts).disk = disk(ts) }

// same-disk
func sameDisk(ts *testscript.TestScript, _ bool, _ []string) {
	if now := disk(ts); now != of(ts).disk {
		ts.Fatalf("the disk was\n%s\nand is\n%s", of(ts).disk, now)
	}
}

// disk lists all files of the root and of the project, with what they hold.
func disk(ts *testscript.TestScript) string {
	var b strings.Builder
	for _, top := range []string{of(ts).place.Root, ts.MkAbs(".")} {
		ts.Check(filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %v", path, info.Mode())
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				fmt.Fprintf(&b, " %x %v", sha256.Sum256(content), info.ModTime())
			}
			b.WriteString("\n")
			return nil
		}))
	}
	return b.String()
}

// residue
func noResidue(ts *testscript.TestScript, _ bool, _ []string) {
	diff, err := of(ts).place.Wait(of(ts).before)
	ts.Check(err)
	if len(diff) > 0 {
		ts.Fatalf("left behind:\n  %s", strings.Join(diff, "\n  "))
	}
}
