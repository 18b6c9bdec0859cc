package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/layer"
)

// A Snapshot is what a step leaves behind: a stack of layers or, for a local
// context, a tree that is read in place.
type Snapshot struct {
	// Key names the steps that led here; empty when only the content counts.
	Key    string
	Layers []string // layer ids, lowest first
	Tree   scan.Tree
	// Manifest is what a copy put where, for the next one like it.
	Manifest *Manifest
}

// An Op is one step of a build, ready to be looked up and, if need be, run.
type Op interface {
	// Key is the step's own part of the cache key: everything that shapes the
	// result, except its inputs.
	Key() (string, error)
	// Inputs tells how each input enters the cache key: with its own key, or
	// with the digest of the content that the step reads from it.
	Inputs(in []Snapshot) ([]InputKey, error)
	// Run carries the step out, and returns its outputs in order.
	Run(ctx context.Context, in []Snapshot, out Output) ([]Snapshot, error)
}

// An InputKey is one input's part of a cache key.
type InputKey struct {
	Chained bool                   // the key of the input itself
	Content func() (string, error) // when not chained: a digest of what is read
}

// An Output is where a running step prints, and how it finds its predecessor.
type Output struct {
	Stdout, Stderr io.Writer
	// Family names this step on this parent whatever is copied; Previous is
	// what the last step of the family left, nil when there was none.
	Previous *Snapshot
	Base     int // layers of Previous that belong to the parent
}

// A Runner runs one command of a build under the hardening of a container.
type Runner interface {
	// RunStep returns the command's exit status; an error means that it could
	// not be run at all.
	RunStep(ctx context.Context, s engine.RunStep, stdout, stderr io.Writer) (int, error)
}

// An ImageSource finds the images that a Dockerfile starts from.
type ImageSource interface {
	// Resolve gets an image by reference, from this host or its registry.
	Resolve(ctx context.Context, ref, platform, mode string) (engine.Image, []byte, error)
}

// A Secret is the value of a build secret, or of a variable that becomes one.
type Secret func(id string) ([]byte, error)

// A Host is what steps need of the machine.
type Host struct {
	Layers   *layer.Store
	Images   ImageSource
	Runner   Runner
	CacheDir string            // mount caches and the contexts' stat caches
	Contexts map[string]string // local name -> directory
	Secret   Secret
	SSH      map[string]string // id -> agent socket
	Insecure bool              // --security=insecure was consented to
	HostNet  bool              // --network=host was consented to
	CacheNS  string

	ExtraHosts []string
	ShmSize    int64
	Ulimits    []engine.Ulimit
	// Epoch, when not zero, is the latest time that a file of a new layer may
	// have (SOURCE_DATE_EPOCH).
	Epoch  time.Time
	Opened *Contexts
}

// New makes an op of its definition.
func New(h *Host, op *pb.Op) (Op, error) {
	switch o := op.Op.(type) {
	case *pb.Op_Source:
		return newSource(h, o.Source, op.Platform)
	case *pb.Op_Exec:
		return &execOp{host: h, op: o.Exec, platform: op.Platform}, nil
	case *pb.Op_File:
		return newFile(h, o.File, len(op.Inputs))
	case *pb.Op_Merge:
		return &mergeOp{op: o.Merge}, nil
	case *pb.Op_Diff:
		return &diffOp{op: o.Diff}, nil
	default:
		return nil, fmt.Errorf("build step of unknown kind %T", op.Op)
	}
}

// Hash is the digest of parts, each told apart from the next, in hex.
func Hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}
