package solver

import (
	"context"
	"strings"

	"github.com/davit-run/davit/engine/build/ops"
)

// A Step is one that ran or was found in the cache: what another host needs to
// find it there.
type Step struct {
	ID      string // names the step and everything it reads
	Alias   string // the same by its inputs' own keys; may be empty
	Outputs [][]string
}

// A Source is a cache of another host.
type Source interface {
	// Alias returns the id that goes with an alias; empty when it is unknown.
	Alias(alias string) string
	// Bring returns the layers of each output of a step, which it has made part
	// of this host's store; none when the step is unknown.
	Bring(ctx context.Context, id string) ([][]string, error)
}

// note remembers a step for Steps.
func (s *Solver) note(k keys, out []ops.Snapshot) {
	step := Step{ID: k.id, Alias: k.alias}
	for _, o := range out {
		step.Outputs = append(step.Outputs, o.Layers)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, step)
}

// Steps are those that were solved, in the order in which they were done.
func (s *Solver) Steps() []Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps
}

// alias finds the id of a step by its inputs' keys, here or elsewhere.
func (s *Solver) alias(alias string) string {
	if r := s.read(alias); r != nil && len(r.Outputs) > 0 {
		return strings.TrimSuffix(r.Outputs[0].Key, "-0")
	}
	for _, src := range s.From {
		if id := src.Alias(alias); id != "" {
			return id
		}
	}
	return ""
}

// brought looks for a step in the caches of other hosts. A cache that fails is
// told of, and the step runs: nothing depends on it.
func (s *Solver) brought(ctx context.Context, k keys) []ops.Snapshot {
	for _, src := range s.From {
		outputs, err := src.Bring(ctx, k.id)
		if err != nil && ctx.Err() == nil {
			s.Warn("build cache: " + err.Error())
		}
		if err != nil || len(outputs) == 0 {
			continue
		}
		out := make([]ops.Snapshot, len(outputs))
		for i, layers := range outputs {
			out[i] = ops.Snapshot{Key: outputKey(k.id, i), Layers: layers}
		}
		return out
	}
	return nil
}
