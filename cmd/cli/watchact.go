package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/local/mirror"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/apply"
	"github.com/davit-run/davit/reconcile/watch"
)

// alive are a service's running containers.
func (w *watching) alive(ctx context.Context, service string) ([]engine.Snapshot, error) {
	all, err := w.engine.Containers(ctx, w.session.name)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c engine.Snapshot) bool {
		a := reconcile.ActualContainer{Container: c.Container, State: c.State}
		return a.OneOff() || a.Service() != service || c.State.Status != engine.Running
	}), nil
}

// sync brings files to all running containers of a service; compare leaves out
// those that are there already. It returns how many containers there are.
func (w *watching) sync(ctx context.Context, t watch.Task, compare bool) (int, error) {
	containers, err := w.alive(ctx, t.Service)
	if err != nil {
		return 0, err
	}
	for _, c := range containers {
		if err := w.into(c, t.Files, compare); err != nil {
			return 0, fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return len(containers), nil
}

// into brings files to one container.
func (w *watching) into(c engine.Snapshot, files []watch.File, compare bool) error {
	m, err := mirror.Open(c.State.PID, c.State.StartTicks)
	if err != nil {
		return err
	}
	defer m.Close()
	list := make([]mirror.File, len(files))
	for i, f := range files {
		list[i] = mirror.File(f)
	}
	return m.Apply(list, compare)
}

// restart stops and starts a service's containers.
func (w *watching) restart(ctx context.Context, service string) error {
	return w.locked(ctx, func() error {
		o := reconcile.Options{Services: []string{service}, NoDeps: true}
		return w.session.run(ctx, reconcile.Restart(w.desired, w.actual, o), quietly)
	})
}

func quietly(apply.Event) {}

// rebuild builds services' images and replaces the containers that run others.
func (w *watching) rebuild(ctx context.Context, services []string) error {
	list := `["` + strings.Join(services, `", "`) + `"]`
	w.say("Rebuilding service(s) %s after changes were detected...", list)
	w.host.built.forget()
	err := w.locked(ctx, func() error {
		var steps []reconcile.Step
		for _, i := range w.desired.Images {
			if i.Build && slices.Contains(services, i.Service) {
				steps = append(steps, reconcile.Step{ID: len(steps) + 1, Do: reconcile.BuildImage{Service: i.Service, Ref: i.Ref}, Why: "its files have changed"})
			}
		}
		if err := w.images(ctx, steps); err != nil {
			return err
		}
		if err := w.observe(ctx); err != nil {
			return err
		}
		o := ready(reconcile.Options{Services: services, NoBuild: true})
		return w.session.run(ctx, reconcile.Plan(w.desired, w.actual, o), quietly)
	})
	if err != nil {
		return err
	}
	w.say("service(s) %s successfully built", list)
	return w.pruneBuilt(ctx)
}

// pruneBuilt removes the project's images whose names newer ones have got. Where
// other builds are at work that is left to the next time.
func (w *watching) pruneBuilt(ctx context.Context) error {
	if !w.o.prune {
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _, err := w.engine.PruneImages(limit, local.ImagePrune{Labels: []string{labelProject + "=" + w.session.name}})
	if limit.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (w *watching) images(ctx context.Context, steps []reconcile.Step) error {
	if w.o.quiet {
		return w.session.run(ctx, steps, quietly)
	}
	return w.applyImages(ctx, "watch", steps)
}

// execIn runs a command in every running container of a service, and passes on
// what it prints.
func (w *watching) execIn(ctx context.Context, service string, hook project.Hook, out io.Writer) error {
	containers, err := w.alive(ctx, service)
	if err != nil {
		return err
	}
	for _, c := range containers {
		if err := w.execOne(ctx, c, hook, out); err != nil {
			return fmt.Errorf("run %s in %s: %w", strings.Join(hook.Command, " "), c.Name, err)
		}
	}
	return nil
}

func (w *watching) execOne(ctx context.Context, c engine.Snapshot, hook project.Hook, out io.Writer) error {
	program, err := wire.FindRuntime()
	if err != nil {
		return err
	}
	layout := w.engine.Layout()
	call := engine.ExecCall{
		Data: layout.Data, Run: layout.Run, Project: w.session.name, ID: c.ID,
		Exec: engine.Exec{Args: hook.Command, User: hook.User, WorkingDir: hook.WorkingDir, Privileged: hook.Privileged},
	}
	for name, value := range hook.Environment {
		if value != nil {
			call.Exec.Env = append(call.Exec.Env, name+"="+*value)
		}
	}
	slices.Sort(call.Exec.Env)
	f, err := inMemory(call)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = []string{wire.Program, "exec"}
	cmd.Env = []string{"TERM=" + os.Getenv("TERM")}
	cmd.ExtraFiles = []*os.File{f} // the first of them is callFD
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// inMemory is a file that holds a value as JSON.
func inMemory(v any) (*os.File, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("call", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("pass the command on: %w", err)
	}
	f := os.NewFile(uintptr(fd), "call")
	if _, err = f.Write(body); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("pass the command on: %w", err)
	}
	return f, nil
}
