package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/layer"
)

// An ExitError is a command of a build that ended with a status other than 0.
type ExitError struct {
	Args   []string
	Status int
}

// Error names the command as the user wrote it, and how it ended.
func (e *ExitError) Error() string {
	args := e.Args
	if len(args) == 3 && args[1] == "-c" {
		args = args[2:]
	}
	why := ""
	switch e.Status {
	case 126:
		why = " (not executable)"
	case 127:
		why = " (command not found)"
	case 137:
		why = " (killed; out of memory?)"
	}
	return fmt.Sprintf("command %q exited with %d%s", strings.Join(args, " "), e.Status, why)
}

// An execOp is RUN.
type execOp struct {
	host     *Host
	op       *pb.ExecOp
	platform *pb.Platform
}

// Key implements Op. Values of secrets and addresses of extra hosts stay out:
// they may differ from one machine to the next and are not part of the result.
// A step that nobody consented to is refused even where its result is known.
func (o *execOp) Key() (string, error) {
	if err := o.consented(); err != nil {
		return "", err
	}
	op := o.op.CloneVT()
	for _, h := range op.Meta.ExtraHosts {
		h.IP = ""
	}
	op.Meta.ProxyEnv = nil
	for _, m := range op.Mounts {
		m.Selector = ""
		if c := m.CacheOpt; c != nil && (c.ID == m.Dest || strings.HasSuffix(c.ID, "/"+m.Dest)) && c.Sharing == pb.CacheSharingOpt_SHARED {
			c.ID, c.Sharing = "", 0
		}
	}
	b, err := json.Marshal(op)
	if err != nil {
		return "", err
	}
	return Hash("exec", FormatPlatform(o.platform), string(b)), nil
}

// Inputs implements Op: an input that is only read counts by its content, the
// root file system and whatever is written to by the steps that led to it.
func (o *execOp) Inputs(in []Snapshot) ([]InputKey, error) {
	keys := chained(len(in))
	for i := range in {
		if o.onlyRead(i) || in[i].Tree != nil {
			keys[i] = InputKey{Content: func() (string, error) { return o.content(in[i], i) }}
		}
	}
	return keys, nil
}

func (o *execOp) onlyRead(input int) bool {
	read := false
	for _, m := range o.op.Mounts {
		if int(m.Input) != input {
			continue
		}
		if m.Dest == "/" || m.MountType != pb.MountType_BIND || !(m.Readonly || m.Output == -1) {
			return false
		}
		read = true
	}
	return read
}

func (o *execOp) content(s Snapshot, input int) (string, error) {
	t, done, err := o.host.View(s)
	if err != nil {
		return "", err
	}
	defer done()
	parts := []string{"bind"}
	for _, m := range o.op.Mounts {
		if int(m.Input) != input {
			continue
		}
		places, err := copyin.Select(t, "/"+m.Selector, copyin.Options{Follow: true})
		if err != nil {
			return "", err
		}
		marks, err := fingerprints(t, places)
		if err != nil {
			return "", err
		}
		for i, p := range places {
			parts = append(parts, p.Dest, marks[i])
		}
	}
	return Hash(parts...), nil
}

// Run implements Op.
func (o *execOp) Run(ctx context.Context, in []Snapshot, out Output) ([]Snapshot, error) {
	if err := runnable(o.platform); err != nil {
		return nil, err
	}
	r := &run{op: o, in: in, outputs: make(map[int]*layer.Draft), stacks: make(map[int][]string)}
	defer r.close()
	step, err := r.prepare(ctx)
	if err != nil {
		return nil, err
	}
	status, err := o.host.Runner.RunStep(ctx, step, out.Stdout, out.Stderr)
	if err != nil {
		return nil, err
	}
	if status != 0 && !slices.Contains(o.op.Meta.ValidExitCodes, int32(status)) {
		return nil, &ExitError{Args: o.op.Meta.Args, Status: status}
	}
	return r.commit()
}

// consented refuses what a Dockerfile may not take by itself (CVE-2024-23653).
func (o *execOp) consented() error {
	if o.op.Security == pb.SecurityMode_INSECURE && !o.host.Insecure {
		return errors.New("RUN --security=insecure is not allowed; consent with --allow security.insecure or build.entitlements")
	}
	if o.op.Network == pb.NetMode_HOST && !o.host.HostNet {
		return errors.New("RUN --network=host is not allowed; consent with --allow network.host or build.network: host")
	}
	if len(o.op.CdiDevices) > 0 {
		return errors.New("RUN --device: davit gives no devices to builds")
	}
	return nil
}

// runnable refuses commands of another machine's platform when the kernel has
// no interpreter for them that containers can use (binfmt_misc, flag F).
func runnable(p *pb.Platform) error {
	if p == nil || p.Architecture == runtime.GOARCH || p.Architecture == "" || p.Architecture == "386" && runtime.GOARCH == "amd64" {
		return nil
	}
	name := map[string]string{"arm64": "aarch64", "amd64": "x86_64", "386": "i386", "ppc64le": "ppc64le"}[p.Architecture]
	if name == "" {
		name = p.Architecture
	}
	b, err := os.ReadFile("/proc/sys/fs/binfmt_misc/qemu-" + name)
	if err == nil && interprets(string(b)) {
		return nil
	}
	return fmt.Errorf("this machine (%s) cannot run commands for %s; register qemu-user with binfmt_misc (package qemu-user-static), or build for linux/%s",
		runtime.GOARCH, FormatPlatform(p), runtime.GOARCH)
}

// interprets reads an entry of binfmt_misc: it has to be enabled, and opened
// when it was registered (flag F), since a container has no such program.
func interprets(entry string) bool {
	enabled, fixed := false, false
	for line := range strings.Lines(entry) {
		flags, ok := strings.CutPrefix(strings.TrimSpace(line), "flags: ")
		enabled = enabled || strings.TrimSpace(line) == "enabled"
		fixed = fixed || ok && strings.Contains(flags, "F")
	}
	return enabled && fixed
}
