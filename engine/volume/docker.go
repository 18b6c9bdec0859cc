package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/davit-run/davit/engine"
)

// dockerFile bounds what is read of Docker's records, in bytes.
const dockerFile = 4 << 20

// A Docker is a Docker engine's data on this host, read without asking it.
type Docker struct {
	Root string // such as /var/lib/docker
}

// FindDocker returns where this host's Docker keeps its data: data-root of its
// configuration, else the usual place. Whether anything is there is not asked.
func FindDocker() Docker {
	var set struct {
		Root string `json:"data-root"`
	}
	if b, err := os.ReadFile("/etc/docker/daemon.json"); err == nil {
		_ = json.Unmarshal(b, &set)
	}
	if set.Root == "" {
		set.Root = "/var/lib/docker"
	}
	return Docker{set.Root}
}

// Data is the directory of a volume's content.
func (d Docker) Data(name string) string { return filepath.Join(d.Root, "volumes", name, "_data") }

// Holds tells whether Docker has a volume of the name with anything in it.
func (d Docker) Holds(name string) bool {
	if !ValidName(name) {
		return false
	}
	f, err := os.Open(d.Data(name))
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) > 0
}

// User names a running container of Docker's that has the volume; empty when
// there is none.
func (d Docker) User(name string) string {
	files, _ := filepath.Glob(filepath.Join(d.Root, "containers", "*", "config.v2.json"))
	for _, path := range files {
		var c struct {
			Name        string
			State       struct{ Running bool }
			MountPoints map[string]struct{ Name string }
		}
		if readBounded(path, &c) != nil || !c.State.Running {
			continue
		}
		for _, m := range c.MountPoints {
			if m.Name == name {
				return filepath.Base(c.Name)
			}
		}
	}
	return ""
}

func readBounded(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return json.NewDecoder(io.LimitReader(f, dockerFile)).Decode(v)
}

// Import copies a volume of Docker's into an empty one of ours: owners, modes,
// times, links and extended attributes as they are. A volume that a running
// container of Docker's writes to is refused, and so is one of ours that holds
// anything.
func (s *Store) Import(ctx context.Context, d Docker, from string, to engine.Volume) error {
	if !ValidName(from) {
		return check(from)
	}
	if _, err := os.Stat(d.Data(from)); err != nil {
		return fmt.Errorf("import volume %s: Docker on this host has none of that name (%s)", from, d.Data(from))
	}
	if who := d.User(from); who != "" {
		return fmt.Errorf("import volume %s: Docker's container %s is using it; stop that first: docker stop %s", from, who, who)
	}
	v, err := s.Create(ctx, to)
	if err != nil {
		return err
	}
	if Mounted(v) {
		return fmt.Errorf("import volume %s: %s is a mount of %s, not a directory of davit's", from, v.Name, v.Options["device"])
	}
	left, err := os.ReadDir(s.layout.VolumeData(v.Name))
	if err != nil {
		return fmt.Errorf("import volume %s: %w", from, err)
	}
	if _, begun := os.Lstat(filepath.Join(s.layout.Volume(v.Name), "copyup")); len(left) > 0 && errors.Is(begun, os.ErrNotExist) {
		return fmt.Errorf("import volume %s: the volume %s is not empty: remove it, or import under another name", from, v.Name)
	}
	root, err := os.OpenRoot(filepath.Dir(d.Data(from)))
	if err != nil {
		return fmt.Errorf("import volume %s: %w", from, err)
	}
	defer root.Close()
	return s.CopyUp(ctx, root, "_data", v.Name)
}
