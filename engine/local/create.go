package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/volume"
)

// A Draft is a container that is asked for.
type Draft struct {
	Name       string
	Project    string
	Spec       engine.Spec
	Replaces   string            // id of the container whose place it takes; empty: none
	Volumes    map[string]string // anonymous volumes to go on with, by target
	Renew      bool              // do not go on with the anonymous volumes of the one it replaces
	AutoRemove bool
}

// CreateContainer writes the record of a container and makes its anonymous
// volumes and missing bind sources; the kernel learns of it when it is started.
func (e *Engine) CreateContainer(ctx context.Context, d Draft) (id string, err error) {
	hold, err := e.images.Layers().Hold(ctx) // the collector waits until the record refers to the layers
	if err != nil {
		return "", err
	}
	defer hold.Release()
	img, err := e.images.Resolve(d.Spec.Image)
	if errors.Is(err, image.ErrNotFound) {
		return "", fmt.Errorf("image %s is not on this host; get it with davit pull or davit load", d.Spec.Image)
	}
	if err != nil {
		return "", err
	}
	if p := d.Spec.Platform; p != "" && !suits(img, p) {
		return "", fmt.Errorf("image %s on this host is for %s/%s, not for platform %s; get that one with davit pull, or change platform",
			d.Spec.Image, img.OS, img.Arch, p)
	}
	if err := e.nameFree(ctx, d); err != nil {
		return "", err
	}
	c := &engine.Container{
		ID: newID(), Name: d.Name, Project: d.Project, Created: time.Now().UTC(), Spec: d.Spec,
		ImageID: img.ID, ImageConfig: img.Config, Layers: img.Layers, AutoRemove: d.AutoRemove,
	}
	if err := e.joinOthers(ctx, c); err != nil {
		return "", err
	}
	if err := e.mountedImages(c); err != nil {
		return "", fmt.Errorf("create container %s: %w", d.Name, err)
	}
	if err := hostPaths(c.Spec.Mounts); err != nil {
		return "", fmt.Errorf("create container %s: %w", d.Name, err)
	}
	kept := d.Volumes
	if d.Replaces != "" && !d.Renew {
		kept = e.keptVolumes(d, kept)
	}
	if err := e.giveVolumes(ctx, c, kept); err != nil {
		return "", fmt.Errorf("create container %s: %w", d.Name, err)
	}
	if d.Replaces != "" {
		if err := e.layout.SaveHeir(d.Project, d.Replaces, c.ID); err != nil {
			return "", fmt.Errorf("create container %s: %w", d.Name, err)
		}
	}
	if err := e.layout.SaveContainer(c); err != nil {
		return "", err
	}
	e.tellStale(ctx, d, c)
	return c.ID, nil
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// nameFree refuses a name that a container of this host has, other than the
// one that is replaced.
func (e *Engine) nameFree(ctx context.Context, d Draft) error {
	projects, err := e.Projects(ctx)
	if err != nil {
		return err
	}
	for _, p := range projects {
		// A default name starts with its project's name: no other project's
		// containers need be read for it.
		if p != d.Project && strings.HasPrefix(d.Name, d.Project+"-") {
			continue
		}
		ids, err := store.Names(e.layout.Containers(p))
		if err != nil {
			return err
		}
		for _, id := range ids {
			c, err := e.layout.LoadContainer(p, id)
			if err != nil || c.Name != d.Name || c.ID == d.Replaces {
				continue
			}
			return fmt.Errorf("container name %q is taken by a container of project %s; remove that one or choose another name", d.Name, p)
		}
	}
	return nil
}

// joinOthers turns service:NAME and container:NAME in namespace modes into the
// id of a container of this host.
func (e *Engine) joinOthers(ctx context.Context, c *engine.Container) error {
	for _, mode := range []*string{&c.Spec.NetworkMode, &c.Spec.Security.IPC, &c.Spec.Security.PID} {
		kind, name, ok := strings.Cut(*mode, ":")
		if !ok || (kind != "service" && kind != "container") {
			continue
		}
		id, err := e.find(ctx, c.Project, kind, name)
		if err != nil {
			return fmt.Errorf("create container %s: %w", c.Name, err)
		}
		*mode = "container:" + id
	}
	return nil
}

// find returns the id of a container by its name or id, or of the first
// replica of a service; of two records of one, the younger.
func (e *Engine) find(ctx context.Context, project, kind, name string) (string, error) {
	projects := []string{project}
	if kind == "container" {
		var err error
		if projects, err = e.Projects(ctx); err != nil {
			return "", err
		}
	}
	var found *engine.Container
	number := func(c *engine.Container) int {
		n, _ := strconv.Atoi(c.Spec.Labels["com.docker.compose.container-number"])
		return n
	}
	for _, p := range projects {
		all, err := e.Containers(ctx, p)
		if err != nil {
			return "", err
		}
		for _, s := range all {
			c := &s.Container
			if kind == "container" && (c.ID == name || len(name) >= 12 && strings.HasPrefix(c.ID, name)) {
				return c.ID, nil
			}
			oneOff := strings.EqualFold(c.Spec.Labels["com.docker.compose.oneoff"], "true")
			if kind == "container" && c.Name != name ||
				kind == "service" && (c.Spec.Labels["com.docker.compose.service"] != name || oneOff) {
				continue
			}
			if found == nil || cmp.Or(cmp.Compare(number(found), number(c)), c.Created.Compare(found.Created)) > 0 {
				found = c
			}
		}
	}
	if found == nil {
		return "", fmt.Errorf("no container of %s %q to share namespaces with", kind, name)
	}
	return found.ID, nil
}

// Find returns the id of the container with a name, or whose id it is or
// begins with, in any project; ErrNoContainer when there is none.
func (e *Engine) Find(ctx context.Context, name string) (string, error) {
	id, err := e.find(ctx, "", "container", name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, ErrNoContainer)
	}
	return id, nil
}

// ErrNoContainer means that no container has the name or id.
var ErrNoContainer = errors.New("no such container")

// hostPaths makes the missing sources of binds that ask for it, as directories
// of the person who typed the command, and names the ones that must exist. An
// engine socket is never made: a directory in its place would only hide that
// it is missing.
func hostPaths(mounts []engine.Mount) error {
	for _, m := range mounts {
		if m.Type != engine.MountBind {
			continue
		}
		_, err := os.Stat(m.Source)
		switch {
		case err == nil:
		case !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("bind mount source %s: %w", m.Source, err)
		case strings.HasSuffix(m.Source, ".sock"):
			return fmt.Errorf("bind mount source %s is missing: a socket is not made for you; start the program that listens there", m.Source)
		case !m.CreateHostPath:
			return fmt.Errorf("bind mount source %s does not exist; make it, or set bind.create_host_path", m.Source)
		default:
			if err := mkdirAsCaller(m.Source); err != nil {
				return err
			}
		}
	}
	return nil
}

// mkdirAsCaller makes a directory and its missing parents, owned by who called
// sudo when somebody did.
func mkdirAsCaller(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := mkdirAsCaller(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if uid, gid, ok := caller(); ok {
		return os.Lchown(path, uid, gid)
	}
	return nil
}

// keptVolumes are the anonymous volumes of the container that is replaced.
func (e *Engine) keptVolumes(d Draft, kept map[string]string) map[string]string {
	old, err := e.layout.LoadContainer(d.Project, d.Replaces)
	if err != nil {
		return kept // it is gone: there is nothing to go on with
	}
	all := maps.Clone(old.Volumes)
	if all == nil {
		all = make(map[string]string)
	}
	maps.Copy(all, kept)
	return all
}

// giveVolumes decides which volume every volume mount of the container shows:
// the named one, the kept anonymous one, or a new anonymous one; paths that the
// image declares and nothing else covers get one too.
func (e *Engine) giveVolumes(ctx context.Context, c *engine.Container, kept map[string]string) error {
	c.Volumes = make(map[string]string)
	covered := make(map[string]bool)
	for _, m := range c.Spec.Mounts {
		target := filepath.Clean(m.Target)
		covered[target] = true
		if m.Type != engine.MountVolume {
			continue
		}
		if m.Source != "" {
			if err := e.begun(ctx, m.Source); err != nil {
				return err
			}
			c.Volumes[target] = m.Source
			continue
		}
		if err := e.anonymous(ctx, c, target, kept, m.Labels); err != nil {
			return err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(c.ImageConfig.Volumes)) {
		target = filepath.Clean("/" + target)
		if covered[target] || target == "/" {
			continue
		}
		if err := e.anonymous(ctx, c, target, kept, nil); err != nil {
			return err
		}
	}
	return nil
}

// begun finishes a volume that a killed command has recorded and not made.
func (e *Engine) begun(ctx context.Context, name string) error {
	v, err := e.volumes.Get(name)
	if errors.Is(err, volume.ErrNotFound) {
		return nil // starting says so
	}
	if err == nil {
		_, err = e.volumes.Create(ctx, v)
	}
	return err
}

func (e *Engine) anonymous(ctx context.Context, c *engine.Container, target string, kept, labels map[string]string) error {
	if name := kept[target]; name != "" {
		if v, err := e.volumes.Get(name); err == nil && v.Anonymous {
			c.Volumes[target] = name
			return nil
		}
	}
	v := engine.Volume{Name: volume.AnonymousName(), Project: c.Project, Labels: labels, Anonymous: true}
	if _, err := e.volumes.Create(ctx, v); err != nil {
		return err
	}
	c.Volumes[target] = v.Name
	return nil
}
