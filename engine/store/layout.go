package store

import (
	"fmt"
	"os"
	"path/filepath"
)

// A Layout knows where everything lies on this host. Every path that davit
// uses comes from here.
type Layout struct {
	Data string // outlives a reboot: /var/lib/davit
	Run  string // does not: /run/davit
}

// Locate returns the layout below root, or the machine's own when root is
// empty: /var/lib/davit and /run/davit for the superuser, the XDG data and
// runtime directories for everybody else. The environment's DAVIT_ROOT stands
// in for an empty root.
func Locate(root string) (Layout, error) {
	if root == "" {
		root = os.Getenv("DAVIT_ROOT")
	}
	if root != "" {
		abs, err := filepath.Abs(root)
		if err != nil {
			return Layout{}, fmt.Errorf("root %s: %w", root, err)
		}
		return Layout{Data: filepath.Join(abs, "data"), Run: filepath.Join(abs, "run")}, nil
	}
	if os.Geteuid() == 0 {
		return Layout{Data: "/var/lib/davit", Run: "/run/davit"}, nil
	}
	return userLayout()
}

func userLayout() (Layout, error) {
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Layout{}, fmt.Errorf("data directory: %w", err)
		}
		data = filepath.Join(home, ".local", "share")
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = fmt.Sprintf("/run/user/%d", os.Geteuid())
	}
	return Layout{Data: filepath.Join(data, "davit"), Run: filepath.Join(run, "davit")}, nil
}

// Layers is where layer directories live, one per layer id.
func (l Layout) Layers() string { return filepath.Join(l.Data, "layers") }

// Layer is one layer's directory: fs below it, meta.json beside that.
func (l Layout) Layer(id string) string { return filepath.Join(l.Layers(), id) }

// LayerFS is the directory that holds a layer's files.
func (l Layout) LayerFS(id string) string { return filepath.Join(l.Layer(id), "fs") }

// Ingest is where layers and blobs are made before they are believed.
func (l Layout) Ingest() string { return filepath.Join(l.Data, "ingest") }

// Blobs holds manifests and configurations, and layer blobs where needed, by
// the hex digits of their sha256.
func (l Layout) Blobs() string { return filepath.Join(l.Data, "blobs", "sha256") }

// Images holds one small file per image and per name.
func (l Layout) Images() string { return filepath.Join(l.Data, "images") }

// Cache holds build keys and mount caches.
func (l Layout) Cache() string { return filepath.Join(l.Data, "cache") }

// Remote is one directory of compose files that came from elsewhere, by what
// names its content.
func (l Layout) Remote(key string) string { return filepath.Join(l.Data, "remote", key) }

// Volumes is where volumes live.
func (l Layout) Volumes() string { return filepath.Join(l.Data, "volumes") }

// Volume is one volume's directory: its content in _data, meta.json beside it.
func (l Layout) Volume(name string) string { return filepath.Join(l.Volumes(), name) }

// VolumeData is the directory that containers see.
func (l Layout) VolumeData(name string) string { return filepath.Join(l.Volume(name), "_data") }

// Networks is where network records live.
func (l Layout) Networks() string { return filepath.Join(l.Data, "networks") }

// Network is one network's directory: network.json, leases and endpoints.
func (l Layout) Network(name string) string { return filepath.Join(l.Networks(), name) }

// Secrets holds the content of secrets and configs, mode 0600.
func (l Layout) Secrets() string { return filepath.Join(l.Data, "secrets") }

// Projects is where the projects' folders lie.
func (l Layout) Projects() string { return filepath.Join(l.Data, "projects") }

// Project is one project's folder: project.json, keeper.log, containers.
func (l Layout) Project(name string) string { return filepath.Join(l.Projects(), name) }

// Isolated is the record of a project that is a copy beside others.
func (l Layout) Isolated(project string) string {
	return filepath.Join(l.Data, "isolated", project+".json")
}

// Containers is where a project's containers lie.
func (l Layout) Containers(project string) string {
	return filepath.Join(l.Project(project), "containers")
}

// Container is one container's folder: container.json, state.json, upper,
// work, log, hosts, hostname, resolv.conf.
func (l Layout) Container(project, id string) string {
	return filepath.Join(l.Containers(project), id)
}

// KeeperLog is where a project's keeper and anchor write.
func (l Layout) KeeperLog(project string) string {
	return filepath.Join(l.Project(project), "keeper.log")
}

// RunProject is the folder of a project that a reboot empties: socket, locks,
// exit records, libcontainer's state and mount points.
func (l Layout) RunProject(name string) string { return filepath.Join(l.Run, "projects", name) }

// KeeperSocket is where a project's keeper listens.
func (l Layout) KeeperSocket(project string) string {
	return filepath.Join(l.RunProject(project), "keeper.sock")
}

// KeeperLock is held by a living keeper for as long as it lives.
func (l Layout) KeeperLock(project string) string {
	return filepath.Join(l.RunProject(project), "keeper.lock")
}

// AnchorLock is held by a project's anchor for as long as it lives. A keeper
// that has cleared up removes its name: the anchor then only ends.
func (l Layout) AnchorLock(project string) string {
	return filepath.Join(l.RunProject(project), "anchor.lock")
}

// ProjectLock is held by a command while it changes a project.
func (l Layout) ProjectLock(project string) string {
	return filepath.Join(l.Run, "locks", "project-"+project)
}

// Lock is a lock of the whole host with the given name.
func (l Layout) Lock(name string) string { return filepath.Join(l.Run, "locks", name) }

// Exits is where the anchor records how the orphans it reaped ended.
func (l Layout) Exits(project string) string {
	return filepath.Join(l.RunProject(project), "exits")
}

// RuntimeState is libcontainer's own state directory for a project.
func (l Layout) RuntimeState(project string) string {
	return filepath.Join(l.RunProject(project), "runtime")
}

// Rootfs is the mount point of one container's overlay, seen in the project's
// mount namespace alone.
func (l Layout) Rootfs(project, id string) string {
	return filepath.Join(l.RunProject(project), "rootfs", id)
}
