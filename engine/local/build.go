package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/keeper/wire"
)

// Build makes an image and gives it names.
func (e *Engine) Build(ctx context.Context, r build.Request, names []string, report func(*client.SolveStatus)) (engine.Image, error) {
	hold, err := e.images.Layers().Hold(ctx)
	if err != nil {
		return engine.Image{}, err
	}
	defer hold.Release()
	b := build.Builder{Layout: e.layout, Layers: e.images.Layers(), Images: buildImages{e}, Runner: stepRunner{e}}
	res, err := b.Build(ctx, r, report)
	if err != nil {
		return engine.Image{}, err
	}
	config, platform, err := build.ImageConfig(res.Config)
	if err != nil {
		return engine.Image{}, fmt.Errorf("image configuration: %w", err)
	}
	img := engine.Image{Created: time.Now().UTC(), OS: platform.OS, Arch: platform.Architecture, Variant: platform.Variant,
		Config: config, Layers: res.Layers}
	return e.images.Put(img, res.Config, nil, names...)
}

// buildImages finds the images that Dockerfiles start from.
type buildImages struct{ e *Engine }

// Resolve implements ops.ImageSource. A reference that was resolved before
// carries the digest that was told then, which for an image without a manifest
// is its id.
func (b buildImages) Resolve(_ context.Context, ref, platform, _ string) (engine.Image, []byte, error) {
	img, err := b.e.images.Resolve(ref)
	if errors.Is(err, image.ErrNotFound) {
		if name, id, ok := strings.Cut(ref, "@"); ok {
			if named, nerr := b.e.images.Resolve(name); nerr == nil && (named.ID == id || named.Digest == id) {
				img, err = named, nil
			}
		}
	}
	if err != nil {
		return engine.Image{}, nil, err
	}
	config, err := b.e.images.Config(img.ID)
	return img, config, err
}

// stepRunner runs a build's commands, each in a davit-runtime of its own.
type stepRunner struct{ e *Engine }

// RunStep implements ops.Runner: the step goes through a socket on descriptor
// 3, and how it ended comes back through it.
func (r stepRunner) RunStep(ctx context.Context, s engine.RunStep, stdout, stderr io.Writer) (int, error) {
	program, err := wire.FindRuntime()
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "step"), os.NewFile(uintptr(fds[1]), "step")
	defer ours.Close()
	cmd := exec.CommandContext(ctx, program, "step", r.e.layout.Data, r.e.layout.Run)
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", program, err)
	}
	res, serr := converse(ours, body)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case serr != nil:
		return 0, errors.Join(serr, err)
	case res.Error != "":
		return 0, errors.New(res.Error)
	}
	return res.Code, nil
}

// converse sends a step and reads how it ended.
func converse(f *os.File, body []byte) (engine.StepResult, error) {
	var res engine.StepResult
	if _, err := f.Write(body); err != nil {
		return res, fmt.Errorf("send build step: %w", err)
	}
	if err := unix.Shutdown(int(f.Fd()), unix.SHUT_WR); err != nil {
		return res, os.NewSyscallError("shutdown", err)
	}
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&res); err != nil {
		return res, fmt.Errorf("build step ended without a word: %w", err)
	}
	return res, nil
}
