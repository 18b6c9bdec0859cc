package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
	"github.com/davit-run/davit/engine/store"
)

// A StepLaunch is one build command and its streams.
type StepLaunch struct {
	Step                  engine.RunStep
	NetNS                 *os.File // of a step with no Network: the sandbox to join
	ResolvConf            []byte   // the step's /etc/resolv.conf; nil: the host's
	Run                   string   // run directory whose compiled filters are used; empty: none
	Stdin, Stdout, Stderr *os.File
}

// stepParent is the cgroup in which those of build steps are.
const stepParent = "/davit/build"

// RunStep runs one build command to its end and returns its exit code. It must
// be called on the main goroutine, locked to the main thread, of a process of
// its own: the thread gets a mount namespace of its own, so that a killed step
// leaves no mount behind. When the process is the first of a pid namespace
// (start it with CLONE_NEWPID and CLONE_NEWNS), its command dies with it however it is killed.
func RunStep(ctx context.Context, l StepLaunch) (code int, err error) {
	s := l.Step
	if s.ID == "" || strings.ContainsAny(s.ID, "/\x00") {
		return 0, fmt.Errorf("build step %q: no id", s.ID)
	}
	if err := ownMounts(); err != nil {
		return 0, fmt.Errorf("run build step: %w", err)
	}
	base := filepath.Join(filepath.Dir(s.Work), ".step-"+s.ID)
	c := stepContainer(s)
	st := &starter{
		state: filepath.Join(base, "state"), id: s.ID, cgroup: cgroupPath(s.CgroupParent, c),
		root: filepath.Join(base, "root"),
	}
	if l.Run != "" {
		st.filters = filters(store.Layout{Run: l.Run})
		defer st.filters.Wait()
	}
	defer func() {
		err = errors.Join(err, st.undo(), os.RemoveAll(base))
	}()
	if err := st.begin(); err != nil {
		return 0, err
	}
	over := stack{lower: s.Lower, upper: s.Upper, work: s.Work, volatile: true}
	if err := st.mountRoot(over); err != nil {
		return 0, err
	}
	binds, err := stepBinds(st.stage, base, l)
	if err != nil {
		return 0, err
	}
	place := bundle.Place{
		NetNS: fdPath(l.NetNS), HostNet: s.Network == "host", Binds: binds,
	}
	if s.Network == "" && l.NetNS == nil {
		return 0, fmt.Errorf("run build step: no network was prepared for it")
	}
	made := newStubs(st.root, c, binds)
	p, err := st.run(ctx, c, place, stdio{in: l.Stdin, out: l.Stdout, err: l.Stderr})
	if err != nil {
		return 0, err
	}
	defer p.PIDFD.Close()
	code, err = waitStep(ctx, p)
	st.child = nil // reaped
	return code, errors.Join(err, made.remove(s.Upper))
}

// ownMounts gives the step a mount namespace that follows the host's: this
// thread's alone, or the whole process's, if it was started with one together
// with a pid namespace. The latter needs a /proc that speaks of it.
func ownMounts() error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	inside := self != strconv.Itoa(os.Getpid())
	if inside {
		if shared, err := parentsMounts(); err != nil || shared {
			return fmt.Errorf("a step in a pid namespace needs a mount namespace too: %w", errors.Join(err, unix.EINVAL))
		}
	} else if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil || !inside {
		return os.NewSyscallError("mount", err)
	}
	return os.NewSyscallError("mount", unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
}

// parentsMounts says whether this process sees its parent's own mounts.
func parentsMounts() (bool, error) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return false, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest) // state, then the parent's pid as /proc knows it
	if len(f) < 2 {
		return false, fmt.Errorf("/proc/self/stat: %q", b)
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return false, err
	}
	parent, err := os.Readlink("/proc/" + f[1] + "/ns/mnt")
	return own == parent, err
}

// waitStep waits for the command, or kills it when ctx ends.
func waitStep(ctx context.Context, p *Process) (int, error) {
	stop := context.AfterFunc(ctx, func() { _ = p.KillAll() })
	defer stop()
	status, err := reap(p.child)
	if err == nil {
		err = ctx.Err()
	}
	return exitStatus(status), err
}

// stepContainer is the record of a container that does what a step asks for.
func stepContainer(s engine.RunStep) *engine.Container {
	c := &engine.Container{ID: s.ID, Name: s.ID, Project: path.Base(stepParent)}
	c.ImageConfig = engine.ImageConfig{Env: s.Env, WorkingDir: s.Cwd, User: s.User}
	c.Spec = engine.Spec{
		Entrypoint: s.Args, Hostname: stepHostname(s), NetworkMode: s.Network,
		Resources: engine.Resources{ShmSize: s.ShmSize, Ulimits: s.Ulimits},
		Security:  engine.Security{Privileged: s.Insecure},
	}
	for _, m := range s.Mounts {
		switch m.Type {
		case "tmpfs":
			c.Spec.Mounts = append(c.Spec.Mounts, engine.Mount{Type: engine.MountTmpfs, Target: m.Target, TmpfsSize: m.Size})
		default:
			c.Spec.Mounts = append(c.Spec.Mounts, engine.Mount{Type: engine.MountBind, Target: m.Target, ReadOnly: m.ReadOnly || m.Type == "file"})
		}
	}
	return c
}

// stepHostname is what a Dockerfile has always seen, unless it asks for another.
func stepHostname(s engine.RunStep) string {
	if s.Hostname != "" {
		return s.Hostname
	}
	return "buildkitsandbox"
}

// stepBinds stands up what a step mounts, and its two name files.
func stepBinds(st *stage, base string, l StepLaunch) (map[string]string, error) {
	s, binds := l.Step, map[string]string{}
	if err := nameFiles(base, l, binds); err != nil {
		return nil, fmt.Errorf("write name files: %w", err)
	}
	secrets := ""
	for i, m := range s.Mounts {
		target := path.Clean(m.Target)
		var err error
		switch {
		case m.Type == "tmpfs":
			continue
		case m.Type == "file":
			if secrets == "" {
				if secrets, err = st.memory(); err != nil {
					return nil, err
				}
			}
			binds[target] = filepath.Join(secrets, strconv.Itoa(i))
			err = writeOwned(binds[target], m.Content, m.UID, m.GID, m.Mode, 0o400)
		case len(m.Lower) > 0:
			binds[target], err = st.view(stack{lower: m.Lower, upper: m.Upper, work: m.Work, volatile: m.Upper != ""}, m.Source)
		default:
			binds[target] = m.Source
		}
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return binds, nil
}

// nameFiles writes hosts and resolv.conf of a step; mounts of its own at those
// places come first.
func nameFiles(base string, l StepLaunch, binds map[string]string) error {
	hosts := "127.0.0.1\tlocalhost " + stepHostname(l.Step) + "\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	for _, h := range l.Step.ExtraHosts {
		if name, addr, ok := strings.Cut(h, ":"); ok {
			hosts += strings.Trim(addr, "[]") + "\t" + name + "\n"
		}
	}
	resolv := l.ResolvConf
	if resolv == nil {
		var err error
		if resolv, err = os.ReadFile("/etc/resolv.conf"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for name, text := range map[string]string{"hosts": hosts, "resolv.conf": string(resolv)} {
		p := filepath.Join(base, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			return err
		}
		binds["/etc/"+name] = p
	}
	return nil
}
