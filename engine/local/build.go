package local

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/keeper/wire"
)

// Build makes an image and gives it names. Images it starts from come from
// their registries, as o says, when they are not here.
func (e *Engine) Build(ctx context.Context, r build.Request, names []string, o RegistryOptions, report func(*build.Progress)) (engine.Image, error) {
	b, err := e.builder(r, o)
	if err != nil {
		return engine.Image{}, err
	}
	img, ran, err := e.build(ctx, b, r, names, report)
	if err == nil && ran > 0 {
		e.toDisk()
		err = e.limitCache()
	}
	return img, err
}

// build makes an image, names it, and tells how many steps had to run.
func (e *Engine) build(ctx context.Context, b *build.Builder, r build.Request, names []string, report func(*build.Progress)) (engine.Image, int, error) {
	hold, err := e.images.Layers().Hold(ctx)
	if err != nil {
		return engine.Image{}, 0, err
	}
	defer hold.Release()
	res, err := b.Build(ctx, r, report)
	if err != nil {
		return engine.Image{}, 0, err
	}
	img, err := res.Image(created(r))
	if err != nil {
		return engine.Image{}, 0, err
	}
	img, err = e.images.Put(img, res.Config, nil, names...)
	return img, res.Ran, err
}

// AskDockerfile answers a question about a Dockerfile: build.CallCheck,
// CallOutline or CallTargets.
func (e *Engine) AskDockerfile(ctx context.Context, r build.Request, call string, o RegistryOptions) (text, object []byte, ok bool, err error) {
	b, err := e.builder(r, o)
	if err != nil {
		return nil, nil, false, err
	}
	return b.Call(ctx, r, call, nil)
}

func (e *Engine) builder(r build.Request, o RegistryOptions) (*build.Builder, error) {
	program, err := wire.FindRuntime()
	if err != nil {
		return nil, err
	}
	return &build.Builder{Layout: e.layout, Layers: e.images.Layers(), Images: buildImages{e, r.Local, o},
		Runner: build.Runner{Program: program, Layout: e.layout}, Carrier: carrier{e, o}}, nil
}

// created is when an image counts as made: SOURCE_DATE_EPOCH makes builds
// reproducible.
func created(r build.Request) time.Time {
	if s, err := strconv.ParseInt(r.Args["SOURCE_DATE_EPOCH"], 10, 64); err == nil {
		return time.Unix(s, 0).UTC()
	}
	return time.Now().UTC()
}

// buildImages finds the images that Dockerfiles start from.
type buildImages struct {
	e     *Engine
	local []string // never pulled
	o     RegistryOptions
}

// Resolve implements ops.ImageSource: an image of this host unless the mode is
// pull, else the registry's. A reference that was resolved before carries the
// digest that was told then, and is not looked for again.
func (b buildImages) Resolve(ctx context.Context, ref, platform, mode string) (engine.Image, []byte, error) {
	img, err := b.find(ref)
	_, _, pinned := strings.Cut(ref, "@")
	fresh := mode == "pull" && !pinned && !slices.Contains(b.local, ref)
	if err == nil && !fresh && suits(img, platform) {
		config, err := b.e.images.Config(img.ID)
		return img, config, err
	}
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		return engine.Image{}, nil, err
	}
	p, err := b.e.Pull(ctx, ref, platform, b.o)
	if err != nil {
		return engine.Image{}, nil, err
	}
	config, err := b.e.images.Config(p.Image.ID)
	return p.Image, config, err
}

// find looks for an image of this host; for one without a manifest, the digest
// that was told is its id.
func (b buildImages) find(ref string) (engine.Image, error) {
	img, err := b.e.images.Resolve(ref)
	if errors.Is(err, image.ErrNotFound) {
		if name, id, ok := strings.Cut(ref, "@"); ok {
			if named, nerr := b.e.images.Resolve(name); nerr == nil && (named.ID == id || named.Digest == id) {
				return named, nil
			}
			if byID, nerr := b.e.images.Resolve(id); nerr == nil {
				return byID, nil
			}
		}
	}
	return img, err
}

// machines are other names of architectures, as uname(1) has them.
var machines = map[string]string{"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}

// suits says whether an image is for a platform such as linux/arm64/v8, or
// arm64 alone; the empty one is whatever is here.
func suits(img engine.Image, platform string) bool {
	want := strings.Split(strings.ToLower(platform), "/")
	if len(want) == 1 && want[0] != "linux" {
		want = []string{"linux", want[0]}
	}
	if name, ok := machines[want[min(1, len(want)-1)]]; ok {
		want[1] = name
	}
	have := []string{img.OS, img.Arch, img.Variant}
	for i, w := range want {
		if i < len(have) && w != "" && have[i] != "" && w != have[i] {
			return false
		}
	}
	return true
}
