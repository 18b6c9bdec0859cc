package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// maxSecret bounds a secret or config, in bytes: they are kept in memory.
const maxSecret = 1 << 20

// sources finds, for every mount of a container, the path to bind from.
type sources struct {
	l     Launch
	c     *engine.Container
	stage *stage
	binds map[string]string
}

// gather returns the host paths by target, standing up those that need it.
func (s *sources) gather() (map[string]string, error) {
	s.binds = map[string]string{}
	for _, f := range []string{"hosts", "hostname", "resolv.conf"} {
		p := filepath.Join(s.l.Layout.Container(s.c.Project, s.c.ID), f)
		if _, err := os.Stat(p); err == nil {
			s.binds["/etc/"+f] = p
		}
	}
	for _, step := range []func() error{s.hostBinds, s.volumes, s.images, s.files, s.shm} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for k, v := range s.l.Binds {
		if v == "" {
			delete(s.binds, k)
		} else {
			s.binds[k] = v
		}
	}
	return s.binds, nil
}

// hostBinds opens all bind sources in the host's mount namespace at once.
func (s *sources) hostBinds() error {
	var binds []engine.Mount
	for _, m := range s.c.Spec.Mounts {
		if m.Type == engine.MountBind {
			binds = append(binds, m)
		}
	}
	if len(binds) == 0 {
		return nil
	}
	trees := make([]*os.File, len(binds))
	err := inMounts(s.l.HostMounts, func() error {
		for i, m := range binds {
			if err := bindSource(m); err != nil {
				return err
			}
			if s.l.HostMounts == nil {
				continue
			}
			var err error
			if trees[i], err = openTree(m.Source); err != nil {
				return err
			}
		}
		return nil
	})
	for i, t := range trees {
		if t == nil {
			s.binds[path.Clean(binds[i].Target)] = binds[i].Source
			continue
		}
		p, terr := s.stage.take(t)
		err = errors.Join(err, terr)
		s.binds[path.Clean(binds[i].Target)] = p
	}
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// bindSource sees to it that a bind's source is there.
func bindSource(m engine.Mount) error {
	if !filepath.IsAbs(m.Source) {
		return fmt.Errorf("source %q is not an absolute path", m.Source)
	}
	_, err := os.Stat(m.Source)
	if errors.Is(err, os.ErrNotExist) && m.CreateHostPath {
		return os.MkdirAll(m.Source, 0o755)
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("source %s does not exist", m.Source)
	}
	return err
}

// volumes maps every target of the record's volumes to their data.
func (s *sources) volumes() error {
	sub := map[string]string{}
	for _, m := range s.c.Spec.Mounts {
		if m.Type == engine.MountVolume {
			sub[path.Clean(m.Target)] = m.Subpath
			if _, ok := s.c.Volumes[m.Target]; !ok && m.Source != "" {
				s.binds[path.Clean(m.Target)] = s.l.Layout.VolumeData(m.Source)
			}
		}
	}
	for target, name := range s.c.Volumes {
		s.binds[path.Clean(target)] = s.l.Layout.VolumeData(name)
	}
	for target, subpath := range sub {
		if subpath == "" {
			continue
		}
		t, err := openSubtree(s.binds[target], subpath)
		if err == nil {
			s.binds[target], err = s.stage.take(t)
		}
		if err != nil {
			return fmt.Errorf("volume at %s: %w", target, err)
		}
	}
	return nil
}

// images stands up the layers of every mounted image, read-only.
func (s *sources) images() error {
	for _, m := range s.c.Spec.Mounts {
		if m.Type != engine.MountImage {
			continue
		}
		target := path.Clean(m.Target)
		layers, ok := s.l.ImageLayers[m.Target]
		if !ok {
			return fmt.Errorf("image %s at %s: its layers are not known", m.Source, target)
		}
		p, err := s.stage.view(stack{lower: layerDirs(s.l.Layout, layers)}, m.Subpath)
		if err != nil {
			return fmt.Errorf("image %s at %s: %w", m.Source, target, err)
		}
		s.binds[target] = p
	}
	return nil
}

// files puts secrets and configs on an in-memory file system of the
// container's own, so that their owner and mode are what was asked for and no
// copy touches a disk.
func (s *sources) files() error {
	if len(s.c.Spec.Files) == 0 {
		return nil
	}
	dir, err := s.stage.memory()
	if err != nil {
		return err
	}
	for i, f := range s.c.Spec.Files {
		p := filepath.Join(dir, strconv.Itoa(i))
		if err := s.file(f, p); err != nil {
			return fmt.Errorf("%s %s: %w", f.Kind, f.Name, err)
		}
		s.binds[path.Clean(f.Target)] = p
	}
	return nil
}

func (s *sources) file(f engine.FileMount, to string) error {
	if f.Key == "" || strings.ContainsAny(f.Key, "/\x00") || f.Key == "." || f.Key == ".." {
		return fmt.Errorf("%q is no key", f.Key)
	}
	text, err := readSecret(filepath.Join(s.l.Layout.Secrets(), f.Key))
	if err != nil {
		return err
	}
	return writeOwned(to, text, f.UID, f.GID, f.Mode, 0o444)
}

func readSecret(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxSecret {
		return nil, fmt.Errorf("not a regular file of at most %d bytes", maxSecret)
	}
	text := make([]byte, st.Size())
	n, err := f.ReadAt(text, 0)
	if n < len(text) {
		return nil, err
	}
	return text, nil
}

// shm finds the /dev/shm to share with the host or with another container.
func (s *sources) shm() error {
	mode := s.c.Spec.Security.IPC
	if mode == "host" {
		s.binds["/dev/shm"] = "/dev/shm"
		return nil
	}
	pid, ok := s.l.joined(mode)
	if !ok {
		return nil
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return fmt.Errorf("ipc %s: %w", mode, err)
	}
	defer ns.Close()
	var tree *os.File
	err = inMounts(ns, func() (err error) {
		tree, err = openTree("/dev/shm")
		return err
	})
	if err != nil {
		return fmt.Errorf("ipc %s: %w", mode, err)
	}
	s.binds["/dev/shm"], err = s.stage.take(tree)
	return err
}

func layerDirs(l store.Layout, ids []string) []string {
	dirs := make([]string, len(ids))
	for i, id := range ids {
		dirs[i] = l.LayerFS(id)
	}
	return dirs
}
