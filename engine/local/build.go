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

// RunStep implements ops.Runner: the step goes to descriptor 3, the command's
// exit status comes back as the program's.
func (r stepRunner) RunStep(ctx context.Context, s engine.RunStep, stdout, stderr io.Writer) (int, error) {
	program, err := wire.FindRuntime()
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return 0, err
	}
	in, out, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	status, report, err := os.Pipe()
	if err != nil {
		out.Close()
		return 0, err
	}
	defer status.Close()
	cmd := exec.CommandContext(ctx, program, "step", r.e.layout.Data, r.e.layout.Run)
	cmd.Env = []string{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{in, report}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		out.Close()
		report.Close()
		return 0, fmt.Errorf("run %s: %w", program, err)
	}
	report.Close()
	_, werr := out.Write(body)
	out.Close()
	said, rerr := io.ReadAll(io.LimitReader(status, 64<<10))
	err = cmd.Wait()
	if cerr := ctx.Err(); cerr != nil {
		return 0, cerr
	}
	if len(said) > 0 {
		return 0, errors.New(strings.TrimSpace(string(said)))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, errors.Join(err, werr, rerr)
}
