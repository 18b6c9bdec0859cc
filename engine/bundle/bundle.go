package bundle

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"

	"github.com/davit-run/davit/engine"
)

// A Place says where on this host the parts of one container lie. Everything
// that differs from host to host, and from boot to boot, arrives here: a
// bundle names no path of its own.
type Place struct {
	// Rootfs is the absolute path at which the container's root file system is
	// mounted, and Root the same directory opened, for reading its passwd and
	// group without leaving it. Root may be nil when the user is numeric.
	Rootfs string
	Root   *os.File

	// NetNS is the path of the network namespace to join; empty with HostNet
	// means the host's own, empty without it a fresh one with nothing in it.
	NetNS   string
	HostNet bool

	// Join holds paths of the namespaces that are shared with another
	// container, by kind.
	Join map[configs.NamespaceType]string

	// Cgroup is the absolute path of the container's cgroup below the root of
	// every hierarchy.
	Cgroup string

	// Binds are the host paths to show in the container: for every bind,
	// volume, image and file mount of the record, by its target, and for
	// /etc/hosts, /etc/hostname, /etc/resolv.conf and a shared /dev/shm.
	Binds map[string]string

	// Init is the executable that serves as PID 1 when the record asks for
	// one; it is shown read-only at InitPath.
	Init string

	// Hostname is the host's own name, used with its network namespace.
	Hostname string

	// Facts are what this kernel and this process may do.
	Facts *Facts
}

// A Bundle is ready for libcontainer.Create and Container.Run; only the
// process's standard streams are missing.
type Bundle struct {
	Config  *configs.Config
	Process *libcontainer.Process
	// Warnings are what the record asks for and this host cannot give, in
	// words for the user.
	Warnings []string
}

// builder carries what the parts of a bundle share while it is made.
type builder struct {
	c    *engine.Container
	p    Place
	opts options
	user User
	caps []string
	out  *Bundle
}

func (b *builder) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(b.out.Warnings, w) {
		b.out.Warnings = append(b.out.Warnings, w)
	}
}

// Build returns the bundle of c at p. Its defaults are section 1 of the
// hardening rules; a record can loosen them only by the fields of its
// Security. An error names the field that cannot be followed.
func Build(c *engine.Container, p Place) (*Bundle, error) {
	if p.Facts == nil {
		p.Facts = ReadFacts()
	}
	b := &builder{c: c, p: p, out: &Bundle{}}
	cfg := &configs.Config{
		Rootfs:     p.Rootfs,
		Readonlyfs: c.Spec.Security.ReadOnlyRoot,
		Umask:      c.Spec.Umask,
		Cgroups:    &cgroups.Cgroup{Path: p.Cgroup, Resources: &cgroups.Resources{}},
		Hooks:      configs.Hooks{},
	}
	b.out.Config = cfg
	for _, part := range []func() error{
		b.options, b.identity, b.process, b.namespaces, b.capabilities,
		b.seccomp, b.paths, b.mounts, b.devices, b.resources, b.rlimits,
		b.sysctls, b.labels,
	} {
		if err := part(); err != nil {
			return nil, fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return b.out, nil
}
