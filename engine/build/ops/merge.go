package ops

import (
	"context"
	"errors"
	"slices"

	"github.com/moby/buildkit/solver/pb"
)

// A mergeOp lays trees over one another: their layers, one stack on the other.
// COPY --link makes its own layer on nothing, so no whiteout in it reaches
// deeper than it was meant to.
type mergeOp struct{ op *pb.MergeOp }

func (o *mergeOp) Key() (string, error) { return Hash("merge"), nil }

func (o *mergeOp) Inputs(in []Snapshot) ([]InputKey, error) { return chained(len(in)), nil }

func chained(n int) []InputKey {
	keys := make([]InputKey, n)
	for i := range keys {
		keys[i].Chained = true
	}
	return keys
}

func (o *mergeOp) Run(_ context.Context, in []Snapshot, _ Output) ([]Snapshot, error) {
	var layers []string
	for _, i := range o.op.Inputs {
		for _, l := range in[i.Input].Layers {
			// overlayfs takes no layer twice; the upper place of one wins.
			if at := slices.Index(layers, l); at >= 0 {
				layers = slices.Delete(layers, at, at+1)
			}
			layers = append(layers, l)
		}
	}
	return []Snapshot{{Layers: layers}}, nil
}

// A diffOp is what a stack has over another one it stands on.
type diffOp struct{ op *pb.DiffOp }

func (o *diffOp) Key() (string, error) { return Hash("diff"), nil }

func (o *diffOp) Inputs(in []Snapshot) ([]InputKey, error) { return chained(len(in)), nil }

func (o *diffOp) Run(_ context.Context, in []Snapshot, _ Output) ([]Snapshot, error) {
	var lower, upper []string
	if i := o.op.Lower.GetInput(); i >= 0 {
		lower = in[i].Layers
	}
	if i := o.op.Upper.GetInput(); i >= 0 {
		upper = in[i].Layers
	}
	if len(upper) < len(lower) || !slices.Equal(lower, upper[:len(lower)]) {
		return nil, errors.New("a difference of trees that do not stand on each other cannot be taken")
	}
	return []Snapshot{{Layers: upper[len(lower):]}}, nil
}
