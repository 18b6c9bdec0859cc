package bundle

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/davit-run/davit/engine"
)

// DefaultPath is the PATH of a process whose image has none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// InitPath is where davit's PID 1 is shown in a container that asks for it.
const InitPath = "/dev/init"

// identity looks up who the container's process is.
func (b *builder) identity() error {
	spec := b.c.Spec.User
	if spec == "" {
		spec = b.c.ImageConfig.User
	}
	u, err := LookupUser(b.p.Root, spec, b.c.Spec.GroupAdd)
	b.user = u
	return err
}

// process says what runs.
func (b *builder) process() error {
	args, err := Args(&b.c.Spec, &b.c.ImageConfig)
	if err != nil {
		return err
	}
	cwd, err := workingDir(b.c.Spec.WorkingDir, b.c.ImageConfig.WorkingDir)
	if err != nil {
		return err
	}
	if b.c.Spec.Init {
		args = append([]string{InitPath, "pid1", "--"}, args...)
	}
	b.out.Process = &libcontainer.Process{
		Args: args,
		Env:  b.env(),
		Cwd:  cwd,
		Init: true,
	}
	setUser(b.out.Process, b.user)
	return nil
}

func setUser(p *libcontainer.Process, u User) {
	p.UID, p.GID, p.AdditionalGroups = u.UID, u.GID, u.Groups
}

// Args returns the command line: the record's entrypoint replaces the image's
// and drops its command; the record's command replaces the image's.
func Args(s *engine.Spec, i *engine.ImageConfig) ([]string, error) {
	entry, cmd := s.Entrypoint, s.Command
	if len(entry) == 0 {
		if !s.NoEntry {
			entry = i.Entrypoint
		}
		if len(cmd) == 0 && !s.NoCommand {
			cmd = i.Cmd
		}
	}
	args := slices.Concat(entry, cmd)
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("no command: neither the image nor the definition says what to run")
	}
	for _, a := range args {
		if strings.IndexByte(a, 0) >= 0 {
			return nil, fmt.Errorf("argument %q contains a zero byte", a)
		}
	}
	return args, nil
}

// workingDir is the record's directory, or the image's, or the root. What lies
// behind somebody's file descriptors is refused (CVE-2024-21626).
func workingDir(spec, image string) (string, error) {
	dir := spec
	if dir == "" {
		dir = image
	}
	dir = path.Clean("/" + dir)
	parts := strings.Split(dir, "/")
	behindFD := len(parts) > 3 && parts[1] == "proc" && (parts[3] == "fd" || parts[3] == "root" || parts[3] == "cwd" || parts[3] == "task")
	if behindFD || dir == "/dev/fd" || strings.HasPrefix(dir, "/dev/fd/") || strings.IndexByte(dir, 0) >= 0 {
		return "", fmt.Errorf("working_dir %s: not a directory of the container", dir)
	}
	return dir, nil
}

// env is the environment of the container's process, in an order that does not
// change from start to start: davit's own, the image's, then the record's.
func (b *builder) env() []string {
	env := newEnviron()
	env.set("PATH", DefaultPath)
	env.set("HOSTNAME", b.hostname())
	if b.c.Spec.TTY {
		env.set("TERM", "xterm")
	}
	env.add(b.c.ImageConfig.Env)
	for _, k := range b.c.Spec.UnsetEnv {
		env.unset(k)
	}
	for _, k := range slices.Sorted(maps.Keys(b.c.Spec.Env)) {
		env.set(k, b.c.Spec.Env[k])
	}
	if env.get("HOME") == "" {
		env.set("HOME", b.user.Home)
	}
	return env.list()
}

// hostname is the name the container knows itself by.
func (b *builder) hostname() string {
	switch {
	case b.c.Spec.Hostname != "":
		return b.c.Spec.Hostname
	case (b.p.HostNet || b.c.Spec.Security.UTS == "host") && b.p.Hostname != "":
		return b.p.Hostname
	case len(b.c.ID) > 12:
		return b.c.ID[:12]
	default:
		return b.c.ID
	}
}

// environ is an ordered set of variables; a later value replaces an earlier
// one in its place.
type environ struct {
	keys   []string
	values map[string]string
}

func newEnviron() *environ { return &environ{values: map[string]string{}} }

func (e *environ) set(k, v string) {
	if k == "" || strings.IndexByte(k, 0) >= 0 || strings.IndexByte(v, 0) >= 0 {
		return
	}
	if _, ok := e.values[k]; !ok {
		e.keys = append(e.keys, k)
	}
	e.values[k] = v
}

func (e *environ) get(k string) string { return e.values[k] }

func (e *environ) unset(k string) {
	if _, ok := e.values[k]; ok {
		delete(e.values, k)
		e.keys = slices.DeleteFunc(e.keys, func(s string) bool { return s == k })
	}
}

// add takes KEY=value words; a word without = takes the variable away.
func (e *environ) add(words []string) {
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			e.set(k, v)
		} else {
			e.unset(k)
		}
	}
}

func (e *environ) list() []string {
	out := make([]string, len(e.keys))
	for i, k := range e.keys {
		out[i] = k + "=" + e.values[k]
	}
	return out
}
