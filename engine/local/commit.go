package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store/inroot"
)

// CommitOptions say what an image made of a container is.
type CommitOptions struct {
	Name, Author, Message string
	Changes               []string
	Pause                 bool // the container stands still meanwhile
}

// Commit makes an image of a container: its image, what it wrote, and what it
// was told to run. Volumes are no part of it.
func (e *Engine) Commit(ctx context.Context, c engine.Snapshot, o CommitOptions) (img engine.Image, err error) {
	if o.Pause && c.State.Status == engine.Running {
		if err := e.PauseContainer(ctx, c.Project, c.ID); err != nil {
			return img, err
		}
		defer func() {
			err = errors.Join(err, e.UnpauseContainer(context.WithoutCancel(ctx), c.Project, c.ID))
		}()
	}
	base, err := e.images.Resolve(c.ImageID)
	if errors.Is(err, image.ErrNotFound) { // removed since; the container keeps what it stands on
		base, err = engine.Image{OS: "linux", Arch: runtime.GOARCH, Layers: c.Layers}, nil
	}
	if err != nil {
		return img, err
	}
	upper := filepath.Join(e.layout.Container(c.Project, c.ID), "upper")
	if _, err := os.Stat(upper); errors.Is(err, os.ErrNotExist) {
		if upper, err = os.MkdirTemp("", "davit-empty-"); err != nil { // it never ran
			return img, err
		}
		defer os.Remove(upper)
	}
	config := effective(c.Container)
	places := mountPlaces(c.Container)
	return e.images.Commit(ctx, image.Commit{
		Base: base, Config: config, Changes: o.Changes, Name: o.Name, Author: o.Author, Message: o.Message,
		Command: strings.Join(append(slices.Clone(config.Entrypoint), config.Cmd...), " "),
	}, upper, func(name string) bool { return places["/"+strings.TrimSuffix(name, "/")] })
}

// effective is the configuration a container runs with, as an image's.
func effective(c engine.Container) engine.ImageConfig {
	out, spec := c.ImageConfig, c.Spec
	if len(spec.Entrypoint) > 0 || spec.NoEntry {
		out.Entrypoint, out.Cmd = spec.Entrypoint, nil
	}
	if spec.Command != nil || spec.NoCommand {
		out.Cmd = spec.Command
	}
	if spec.User != "" {
		out.User = spec.User
	}
	if spec.WorkingDir != "" {
		out.WorkingDir = spec.WorkingDir
	}
	out.Env = slices.Clone(out.Env)
	for _, key := range slices.Sorted(maps.Keys(spec.Env)) {
		out.Env = slices.DeleteFunc(out.Env, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
		out.Env = append(out.Env, key+"="+spec.Env[key])
	}
	out.Labels = maps.Clone(out.Labels)
	return out
}

// mountPlaces are the paths that a container's upper holds only because
// something is mounted there.
func mountPlaces(c engine.Container) map[string]bool {
	places := map[string]bool{}
	for _, p := range []string{"/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		places[p] = true
	}
	for _, m := range c.Spec.Mounts {
		places[path.Clean(m.Target)] = true
	}
	for target := range c.Volumes {
		places[path.Clean(target)] = true
	}
	for _, f := range c.Spec.Files {
		places[path.Clean(f.Target)] = true
	}
	return places
}

// Export writes a container's file system as a tar: its image and what it
// wrote, without volumes.
func (e *Engine) Export(ctx context.Context, c engine.Snapshot, w io.Writer) error {
	root, done, err := e.Files(ctx, c, OwnFiles)
	if err != nil {
		return err
	}
	defer done()
	dir, err := root.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return layer.TarAt(ctx, dir, "", "", w, layer.TarOptions{Plain: true})
}

// A Difference is one path that a container changed, added or deleted.
type Difference struct {
	Kind byte // C, A or D
	Path string
}

// Differences lists what a container did to its image's files, by path.
func (e *Engine) Differences(ctx context.Context, c engine.Snapshot) ([]Difference, error) {
	upper, err := inroot.Open(filepath.Join(e.layout.Container(c.Project, c.ID), "upper"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	below, done, err := e.Files(ctx, c, ImageFiles)
	if err != nil {
		return nil, err
	}
	defer done()
	d := &differ{upper: upper, below: below, places: mountPlaces(c.Container)}
	if err := d.dir(ctx, "/"); err != nil {
		return nil, fmt.Errorf("compare %s with its image: %w", c.Name, err)
	}
	return d.out, nil
}

type differ struct {
	upper, below *inroot.Root
	places       map[string]bool
	out          []Difference
}

func (d *differ) dir(ctx context.Context, p string) error {
	names, err := d.upper.ReadDir(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.one(ctx, path.Join(p, n)); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) one(ctx context.Context, p string) error {
	if d.places[p] {
		return nil
	}
	st, err := d.upper.Lstat(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	was, err := d.below.Lstat(p)
	there := err == nil
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0: // overlayfs' whiteout
		d.out = append(d.out, Difference{'D', p})
		return nil
	case there:
		d.out = append(d.out, Difference{'C', p})
	default:
		d.out = append(d.out, Difference{'A', p})
	}
	if !isDir {
		return nil
	}
	if there && was.Mode&unix.S_IFMT == unix.S_IFDIR && d.opaque(p) {
		d.hidden(p)
	}
	return d.dir(ctx, p)
}

// opaque tells whether a directory of the upper hides the one below it.
func (d *differ) opaque(p string) bool {
	f, err := d.upper.OpenFile(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	n, err := unix.Fgetxattr(int(f.Fd()), "trusted.overlay.opaque", nil)
	return err == nil && n > 0
}

// hidden tells of what an opaque directory hides.
func (d *differ) hidden(p string) {
	names, _ := d.below.ReadDir(p)
	slices.Sort(names)
	for _, n := range names {
		if _, err := d.upper.Lstat(path.Join(p, n)); errors.Is(err, os.ErrNotExist) {
			d.out = append(d.out, Difference{'D', path.Join(p, n)})
		}
	}
}
