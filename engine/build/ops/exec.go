package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/inroot"
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
func (o *execOp) Key() (string, error) {
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
	if err := errors.Join(o.consented(), runnable(o.platform)); err != nil {
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
	if err == nil && strings.Contains(string(b), "enabled") && strings.Contains(string(b), "F") {
		return nil
	}
	return fmt.Errorf("this machine (%s) cannot run commands for %s; register qemu-user with binfmt_misc (package qemu-user-static), or build for linux/%s",
		runtime.GOARCH, FormatPlatform(p), runtime.GOARCH)
}

// A run is what one command holds while it runs.
type run struct {
	op      *execOp
	in      []Snapshot
	outputs map[int]*layer.Draft
	stacks  map[int][]string // output -> layers it stands on
	drafts  []*layer.Draft   // what is thrown away afterwards
	locks   []*store.Lock
	ends    []func()
	tmp     []string
}

func (r *run) close() {
	for _, d := range r.outputs {
		d.Discard()
	}
	for _, d := range r.drafts {
		d.Discard()
	}
	for _, l := range r.locks {
		l.Release()
	}
	for _, end := range r.ends {
		end()
	}
	for _, p := range r.tmp {
		_ = os.RemoveAll(p)
	}
}

func (r *run) prepare(ctx context.Context) (engine.RunStep, error) {
	h, meta := r.op.host, r.op.op.Meta
	s := engine.RunStep{
		ID: "build-" + newLayerID()[:16], Args: meta.Args, Env: meta.Env, Cwd: meta.Cwd, User: meta.User,
		Hostname: meta.Hostname, Insecure: r.op.op.Security == pb.SecurityMode_INSECURE, ExtraHosts: h.ExtraHosts,
		ShmSize: h.ShmSize, Ulimits: h.Ulimits, CgroupParent: meta.CgroupParent,
	}
	switch r.op.op.Network {
	case pb.NetMode_NONE:
		s.Network = "none"
	case pb.NetMode_HOST:
		s.Network = "host"
	}
	for _, e := range meta.ExtraHosts {
		s.ExtraHosts = append(s.ExtraHosts, e.Host+":"+e.IP)
	}
	for _, u := range meta.Ulimit {
		s.Ulimits = append(s.Ulimits, engine.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	for _, m := range r.op.op.Mounts {
		if err := r.mount(ctx, &s, m); err != nil {
			return s, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
	}
	s.Env = append(slices.Clone(s.Env), proxyEnv(meta.ProxyEnv)...)
	return s, r.secretEnv(&s)
}

// proxyEnv is what the predeclared proxy arguments become, in both spellings.
func proxyEnv(p *pb.ProxyEnv) []string {
	var env []string
	for _, v := range [][2]string{
		{"HTTP_PROXY", p.GetHttpProxy()}, {"HTTPS_PROXY", p.GetHttpsProxy()}, {"FTP_PROXY", p.GetFtpProxy()},
		{"NO_PROXY", p.GetNoProxy()}, {"ALL_PROXY", p.GetAllProxy()},
	} {
		if v[1] != "" {
			env = append(env, v[0]+"="+v[1], strings.ToLower(v[0])+"="+v[1])
		}
	}
	return env
}

func (r *run) secretEnv(s *engine.RunStep) error {
	for _, e := range r.op.op.Secretenv {
		v, err := r.secret(e.ID, e.Optional)
		if err != nil {
			return err
		}
		if v != nil {
			s.Env = append(slices.Clone(s.Env), e.Name+"="+string(v))
		}
	}
	return nil
}

func (r *run) secret(id string, optional bool) ([]byte, error) {
	var v []byte
	err := errors.New("no secrets were given")
	if r.op.host.Secret != nil {
		v, err = r.op.host.Secret(id)
	}
	switch {
	case err == nil:
		return v, nil
	case optional:
		return nil, nil
	}
	return nil, fmt.Errorf("secret %s: %w", id, err)
}

func (r *run) mount(ctx context.Context, s *engine.RunStep, m *pb.Mount) error {
	switch m.MountType {
	case pb.MountType_BIND:
		if m.Dest == "/" {
			return r.root(s, m)
		}
		return r.bind(ctx, s, m)
	case pb.MountType_TMPFS:
		s.Mounts = append(s.Mounts, engine.StepMount{Type: "tmpfs", Target: m.Dest, Size: m.TmpfsOpt.GetSize()})
	case pb.MountType_CACHE:
		return r.cache(ctx, s, m)
	case pb.MountType_SECRET:
		v, err := r.secret(m.SecretOpt.ID, m.SecretOpt.Optional)
		if err != nil || v == nil {
			return err
		}
		s.Mounts = append(s.Mounts, engine.StepMount{Type: "file", Target: m.Dest, Content: v, ReadOnly: true,
			UID: int(m.SecretOpt.Uid), GID: int(m.SecretOpt.Gid), Mode: m.SecretOpt.Mode})
	case pb.MountType_SSH:
		id := m.SSHOpt.ID
		if id == "" {
			id = "default"
		}
		socket := r.op.host.SSH[id]
		if socket == "" && m.SSHOpt.Optional {
			return nil
		}
		if socket == "" {
			return fmt.Errorf("no ssh agent %q; give one with --ssh", id)
		}
		path, err := r.forwardAgent(socket, m.SSHOpt)
		if err != nil {
			return err
		}
		s.Mounts = append(s.Mounts, engine.StepMount{Type: "bind", Source: path, Target: m.Dest})
	}
	return nil
}

// root lays the command's own layer over what the steps before it left.
func (r *run) root(s *engine.RunStep, m *pb.Mount) error {
	h := r.op.host
	stack, err := r.layers(m)
	if err != nil {
		return err
	}
	d, err := h.Layers.NewDraft()
	if err != nil {
		return err
	}
	if m.Output >= 0 {
		r.outputs[int(m.Output)], r.stacks[int(m.Output)] = d, stack
	} else {
		r.drafts = append(r.drafts, d)
	}
	s.Lower, err = r.dirs(stack)
	s.Upper, s.Work = d.FS, d.Work
	return err
}

func (r *run) layers(m *pb.Mount) ([]string, error) {
	if m.Input < 0 {
		return nil, nil
	}
	in := r.in[m.Input]
	if in.Tree == nil {
		return in.Layers, nil
	}
	return r.op.host.materialise(in)
}

func (r *run) dirs(stack []string) ([]string, error) {
	dirs := make([]string, 0, len(stack)+1)
	for _, id := range stack {
		dirs = append(dirs, r.op.host.Layers.FS(id))
	}
	if len(dirs) == 0 {
		empty, err := r.op.host.empty()
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, empty)
	}
	return dirs, nil
}

// bind shows a stage or a context at a path. What the command writes there is
// thrown away, unless the step keeps it as an output of its own.
func (r *run) bind(ctx context.Context, s *engine.RunStep, m *pb.Mount) error {
	stack, err := r.layers(m)
	if err != nil {
		return err
	}
	lower, err := r.dirs(stack)
	if err != nil {
		return err
	}
	if len(lower) == 1 && m.Readonly {
		// overlayfs wants two directories where nothing is written. Both must
		// stay: a merged directory of which one was removed lists nothing.
		empty, err := r.op.host.empty()
		if err != nil {
			return err
		}
		lower = append([]string{empty}, lower...)
	}
	mount := engine.StepMount{Type: "bind", Target: m.Dest, Source: m.Selector, ReadOnly: m.Readonly, Lower: lower}
	if !m.Readonly {
		d, err := r.op.host.Layers.NewDraft()
		if err != nil {
			return err
		}
		mount.Upper, mount.Work = d.FS, d.Work
		if m.Output >= 0 {
			r.outputs[int(m.Output)], r.stacks[int(m.Output)] = d, stack
		} else {
			r.drafts = append(r.drafts, d)
		}
	}
	s.Mounts = append(s.Mounts, mount)
	return nil
}

// cache finds the directory of a cache mount: by a digest of its id, which is
// never a path (CVE-2024-23651).
func (r *run) cache(ctx context.Context, s *engine.RunStep, m *pb.Mount) error {
	h := r.op.host
	id := m.CacheOpt.GetID()
	if id == "" {
		id = m.Dest
	}
	dir, lock, err := h.cacheDir(ctx, Hash("cache", h.CacheNS, id)[:32], m.CacheOpt.GetSharing())
	if err != nil {
		return err
	}
	r.locks = append(r.locks, lock)
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		if err := r.fillCache(ctx, m, data); err != nil {
			return err
		}
	}
	s.Mounts = append(s.Mounts, engine.StepMount{Type: "bind", Source: data, Target: m.Dest, ReadOnly: m.Readonly})
	return nil
}

// fillCache makes a new cache directory, with the content, owner and mode that
// the instruction gives it, under another name first.
func (r *run) fillCache(ctx context.Context, m *pb.Mount, data string) error {
	tmp, err := os.MkdirTemp(filepath.Dir(data), ".new-")
	if err != nil {
		return err
	}
	r.tmp = append(r.tmp, tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if m.Input >= 0 {
		if err := r.copyInto(ctx, r.in[m.Input], m.Selector, tmp); err != nil {
			return err
		}
	}
	err = os.Rename(tmp, data)
	if errors.Is(err, os.ErrExist) {
		return nil // another build was first
	}
	return err
}

func (r *run) copyInto(ctx context.Context, from Snapshot, selector, dir string) error {
	t, done, err := r.op.host.View(from)
	if err != nil {
		return err
	}
	defer done()
	e, err := t.Lstat(selector)
	if err != nil {
		return err
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	opts := copyin.Options{Contents: true, MakeDest: true}
	places, err := copyin.Plan(t, selector, root, "/", opts)
	if err != nil {
		return err
	}
	if err := copyin.Apply(ctx, t, root, places, opts); err != nil {
		return err
	}
	if err := os.Chown(dir, e.UID, e.GID); err != nil {
		return err
	}
	return os.Chmod(dir, os.FileMode(e.Mode&0o777)|sticky(e.Mode))
}

func sticky(mode uint32) os.FileMode {
	if mode&0o1000 != 0 {
		return os.ModeSticky
	}
	return 0
}

// commit publishes what the command wrote.
func (r *run) commit() ([]Snapshot, error) {
	n := 0
	for i := range r.outputs {
		n = max(n, i+1)
	}
	out := make([]Snapshot, n)
	for i, d := range r.outputs {
		id, err := r.op.host.commit(d)
		if err != nil {
			return nil, err
		}
		out[i].Layers = append(slices.Clone(r.stacks[i]), id)
	}
	return out, nil
}

// cacheDir opens the directory of a cache mount under the lock that its sharing
// asks for: shared holders side by side, a private one with a directory nobody
// else has, a locked one alone.
func (h *Host) cacheDir(ctx context.Context, name string, sharing pb.CacheSharingOpt) (string, *store.Lock, error) {
	base := filepath.Join(h.CacheDir, "mounts", name)
	for n := 0; ; n++ {
		dir := base
		if n > 0 {
			dir = fmt.Sprintf("%s-%d", base, n)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", nil, err
		}
		lock := filepath.Join(dir, "lock")
		switch sharing {
		case pb.CacheSharingOpt_SHARED:
			l, err := store.AcquireShared(ctx, lock)
			return dir, l, err
		case pb.CacheSharingOpt_LOCKED:
			l, err := store.Acquire(ctx, lock)
			return dir, l, err
		}
		l, err := store.TryAcquire(lock)
		if err == nil || !errors.Is(err, store.ErrLocked) {
			return dir, l, err
		}
	}
}

// materialise copies a context into a layer, for commands that mount it: a
// directory that is edited while the command runs would be no snapshot, and
// shows files that .dockerignore excludes.
func (h *Host) materialise(s Snapshot) ([]string, error) {
	o := &fileOp{host: h, base: -1}
	id, err := o.write(nil, func(root *inroot.Root) error {
		opts := copyin.Options{Contents: true, MakeDest: true}
		places, err := copyin.Plan(s.Tree, "/", root, "/", opts)
		if err != nil {
			return err
		}
		return copyin.Apply(context.Background(), s.Tree, root, places, opts)
	})
	if err != nil {
		return nil, err
	}
	return []string{id}, nil
}

var _ scan.Tree = (*scan.Stack)(nil)
