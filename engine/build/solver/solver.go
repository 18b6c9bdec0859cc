package solver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/davit-run/davit/engine/build/ops"
	"github.com/davit-run/davit/engine/store"
)

// A Solver carries out build graphs. Vertices that two graphs share, and those
// that several branches of one graph need, run once.
type Solver struct {
	host   *ops.Host
	layout store.Layout
	report func(*client.SolveStatus)
	slots  chan struct{} // how many steps run at once

	// From are caches of other hosts, asked in order for what is not in this
	// one's; Warn hears of one that fails.
	From []Source
	Warn func(string)

	ran atomic.Int64

	mu       sync.Mutex
	vertices map[digest.Digest]*vertex
	steps    []Step
}

// New returns a solver whose cache lies in layout. report gets the progress;
// parallel bounds the steps that run at once.
func New(h *ops.Host, layout store.Layout, parallel int, report func(*client.SolveStatus)) *Solver {
	return &Solver{host: h, layout: layout, report: report, slots: make(chan struct{}, parallel),
		vertices: make(map[digest.Digest]*vertex)}
}

// A vertex is one step of a graph, and what became of it.
type vertex struct {
	digest digest.Digest
	op     *pb.Op
	meta   *pb.OpMetadata
	name   string
	source *pb.Source
	inputs []edge

	once sync.Once
	out  []ops.Snapshot
	err  error
}

type edge struct {
	from  *vertex
	index int
}

// A StepError is a step that failed, with the place in the Dockerfile that
// asked for it.
type StepError struct {
	Vertex digest.Digest
	Name   string
	Source *pb.Source // locations of this step alone; nil when none is known
	Err    error
}

// Error names the step.
func (e *StepError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }

// Unwrap is what went wrong.
func (e *StepError) Unwrap() error { return e.Err }

// Solve carries out a graph and returns what its last step leaves.
func (s *Solver) Solve(ctx context.Context, def *pb.Definition) (ops.Snapshot, error) {
	last, err := s.load(def)
	if err != nil {
		return ops.Snapshot{}, err
	}
	if last == nil {
		return ops.Snapshot{}, nil // scratch
	}
	return s.result(ctx, *last)
}

// Ran is how many steps were not found in the cache.
func (s *Solver) Ran() int64 { return s.ran.Load() }

// load adds the graph's vertices to those that are known, and announces the
// new ones.
func (s *Solver) load(def *pb.Definition) (*edge, error) {
	if len(def.GetDef()) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var last *edge
	var fresh []*client.Vertex
	for _, b := range def.Def {
		op := new(pb.Op)
		if err := op.UnmarshalVT(b); err != nil {
			return nil, fmt.Errorf("build graph: %w", err)
		}
		d := digest.FromBytes(b)
		var inputs []edge
		for _, in := range op.Inputs {
			from := s.vertices[digest.Digest(in.Digest)]
			if from == nil {
				return nil, fmt.Errorf("build graph: step %s comes after one that needs it", in.Digest)
			}
			inputs = append(inputs, edge{from, int(in.Index)})
		}
		if op.Op == nil { // the last one only points at the result
			if len(inputs) != 1 {
				return nil, errors.New("build graph without one result")
			}
			last = &inputs[0]
			continue
		}
		if s.vertices[d] != nil {
			continue
		}
		v := &vertex{digest: d, op: op, meta: def.Metadata[string(d)], inputs: inputs, source: location(def, d)}
		v.name = name(v)
		s.vertices[d] = v
		fresh = append(fresh, v.status())
	}
	if len(fresh) > 0 {
		s.report(&client.SolveStatus{Vertexes: fresh})
	}
	return last, nil
}

func location(def *pb.Definition, d digest.Digest) *pb.Source {
	loc := def.GetSource().GetLocations()[string(d)]
	if loc == nil {
		return nil
	}
	return &pb.Source{Locations: map[string]*pb.Locations{string(d): loc}, Infos: def.Source.Infos}
}

func name(v *vertex) string {
	if n := v.meta.GetDescription()["llb.customname"]; n != "" {
		return n
	}
	if src := v.op.GetSource(); src != nil {
		return src.Identifier
	}
	if e := v.op.GetExec(); e != nil {
		return fmt.Sprint(e.Meta.Args)
	}
	return string(v.digest)
}

func (v *vertex) status() *client.Vertex {
	c := &client.Vertex{Digest: v.digest, Name: v.name, ProgressGroup: v.meta.GetProgressGroup()}
	for _, in := range v.inputs {
		c.Inputs = append(c.Inputs, in.from.digest)
	}
	return c
}

func (s *Solver) result(ctx context.Context, e edge) (ops.Snapshot, error) {
	v := e.from
	v.once.Do(func() { v.out, v.err = s.solve(ctx, v) })
	if v.err != nil {
		return ops.Snapshot{}, v.err
	}
	if e.index >= len(v.out) {
		return ops.Snapshot{}, fmt.Errorf("%s: there is no output %d", v.name, e.index)
	}
	return v.out[e.index], nil
}

// solve gets the inputs, side by side, and then the step itself.
func (s *Solver) solve(ctx context.Context, v *vertex) ([]ops.Snapshot, error) {
	in := make([]ops.Snapshot, len(v.inputs))
	errs := make([]error, len(v.inputs))
	var wg sync.WaitGroup
	for i, e := range v.inputs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			in[i], errs[i] = s.result(ctx, e)
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err // it names its own step
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.step(ctx, v, in)
}

func (s *Solver) step(ctx context.Context, v *vertex, in []ops.Snapshot) ([]ops.Snapshot, error) {
	started := time.Now()
	running := v.status()
	running.Started = &started
	s.report(&client.SolveStatus{Vertexes: []*client.Vertex{running}})
	out, cached, err := s.lookupOrRun(ctx, v, in)
	done := v.status()
	now := time.Now()
	done.Started, done.Completed, done.Cached = &started, &now, cached
	if err != nil {
		done.Error = err.Error()
		err = &StepError{Vertex: v.digest, Name: v.name, Source: v.source, Err: err}
	}
	s.report(&client.SolveStatus{Vertexes: []*client.Vertex{done}})
	return out, err
}

func (s *Solver) lookupOrRun(ctx context.Context, v *vertex, in []ops.Snapshot) ([]ops.Snapshot, bool, error) {
	op, err := ops.New(s.host, v.op)
	if err != nil {
		return nil, false, err
	}
	k, err := s.keys(op, in)
	if err != nil {
		return nil, false, err
	}
	if k.id == "" { // a source: it is looked at every time
		out, err := op.Run(ctx, in, ops.Output{})
		return out, false, err
	}
	out, cached, err := s.lookupOrRunAs(ctx, v, op, k, in)
	if err == nil {
		s.note(k, out)
	}
	return out, cached, err
}

func (s *Solver) lookupOrRunAs(ctx context.Context, v *vertex, op ops.Op, k keys, in []ops.Snapshot) ([]ops.Snapshot, bool, error) {
	fresh := v.meta.GetIgnoreCache()
	if !fresh {
		if out := s.cached(k); out != nil {
			return out, true, nil
		}
	}
	lock, err := store.Acquire(ctx, s.layout.Lock("build-"+k.id[:32]))
	if err != nil {
		return nil, false, err
	}
	defer lock.ReleaseRemove()
	if !fresh { // another build may have run the step meanwhile
		if out := s.cached(k); out != nil {
			return out, true, nil
		}
		if out := s.brought(ctx, k); out != nil {
			return out, true, s.remember(k, out)
		}
	}
	out, err := op.Run(ctx, in, s.output(v, k))
	if err != nil {
		return nil, false, err
	}
	s.ran.Add(1)
	for i := range out {
		out[i].Key = outputKey(k.id, i)
	}
	return out, false, s.remember(k, out)
}

// outputKey names an output of a step.
func outputKey(id string, n int) string { return ops.Hash(id, fmt.Sprint(n)) }

func (s *Solver) output(v *vertex, k keys) ops.Output {
	o := ops.Output{
		Stdout: &lines{solver: s, vertex: v.digest, stream: 1},
		Stderr: &lines{solver: s, vertex: v.digest, stream: 2},
	}
	if v.meta.GetIgnoreCache() {
		return o
	}
	if r := s.read(k.family); r != nil && len(r.Outputs) == 1 {
		o.Previous = &ops.Snapshot{Layers: r.Outputs[0].Layers, Manifest: r.Manifest}
	}
	return o
}

// lines is the output of a step on its way to the progress display.
type lines struct {
	solver *Solver
	vertex digest.Digest
	stream int
}

func (l *lines) Write(b []byte) (int, error) {
	l.solver.report(&client.SolveStatus{Logs: []*client.VertexLog{{
		Vertex: l.vertex, Stream: l.stream, Data: append([]byte(nil), b...), Timestamp: time.Now(),
	}}})
	return len(b), nil
}
