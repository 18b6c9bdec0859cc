package bundle

import (
	"fmt"
	"os"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/capabilities"
	"github.com/opencontainers/runc/libcontainer/configs"

	"github.com/davit-run/davit/engine"
)

// Exec returns one further process for a running container: its own user,
// directory and environment over the container's, behind the walls that cfg,
// the container's configuration, put up. root is the container's root as its
// processes see it.
func Exec(c *engine.Container, cfg *configs.Config, root *os.File, e engine.Exec) (*libcontainer.Process, error) {
	if len(e.Args) == 0 || e.Args[0] == "" {
		return nil, fmt.Errorf("no command")
	}
	own := *c
	own.Spec.TTY, own.Spec.Init = e.TTY, false
	if e.User != "" {
		own.Spec.User = e.User
	}
	b := &builder{c: &own, out: &Bundle{}, p: Place{Root: root, Hostname: cfg.Hostname}}
	if cfg.Hostname != "" {
		own.Spec.Hostname = cfg.Hostname
	}
	if err := b.identity(); err != nil {
		return nil, err
	}
	dir := e.WorkingDir
	if dir == "" {
		dir = c.Spec.WorkingDir
	}
	cwd, err := workingDir(dir, c.ImageConfig.WorkingDir)
	if err != nil {
		return nil, err
	}
	env := newEnviron()
	env.add(b.env())
	env.add(e.Env)
	p := &libcontainer.Process{Args: e.Args, Env: env.list(), Cwd: cwd}
	setUser(p, b.user)
	caps := cfg.Capabilities.Bounding
	if e.Privileged {
		caps = ReadFacts().holds(capabilities.KnownCapabilities())
	}
	p.Capabilities = CapsFor(p.UID, caps)
	return p, nil
}
