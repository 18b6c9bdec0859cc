package ops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

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
