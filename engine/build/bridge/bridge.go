package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/davit-run/davit/engine/build/ops"
	"github.com/davit-run/davit/engine/build/solver"
)

// A Bridge is what the frontend takes for a BuildKit gateway.
type Bridge struct {
	Host     *ops.Host
	Solver   *solver.Solver
	Options  map[string]string // frontend options: filename, target, build-arg:X, …
	Platform ocispecs.Platform
	Report   func(*client.SolveStatus)
}

var _ gateway.Client = (*Bridge)(nil)

// BuildOpts tells the frontend what was asked for and what can be done.
func (b *Bridge) BuildOpts() gateway.BuildOpts {
	return gateway.BuildOpts{
		Opts:      b.Options,
		SessionID: "davit",
		Workers:   []gateway.WorkerInfo{{ID: "davit", Platforms: []ocispecs.Platform{b.Platform}}},
		Product:   "davit",
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

// Solve carries out a graph at once. Custom frontends are never pulled or run
// (CVE-2026-33747): the compiled-in one answers whatever a syntax line names,
// and says so when that was not a release of itself.
func (b *Bridge) Solve(ctx context.Context, req gateway.SolveRequest) (*gateway.Result, error) {
	if req.Frontend != "" {
		return b.builtin(ctx, req)
	}
	s, err := b.Solver.Solve(ctx, req.Definition)
	if err != nil {
		return nil, err
	}
	res := gateway.NewResult()
	res.SetRef(&Reference{host: b.Host, def: req.Definition, Snapshot: s})
	return res, nil
}

func (b *Bridge) builtin(ctx context.Context, req gateway.SolveRequest) (*gateway.Result, error) {
	source := req.FrontendOpt["source"]
	name, tag, _ := strings.Cut(strings.TrimPrefix(source, "docker.io/"), ":")
	if name != "docker/dockerfile" {
		b.Warning(fmt.Sprintf("syntax=%s is not run: davit reads this file as docker/dockerfile:1", source))
	} else if strings.Contains(tag, ".") {
		b.Warning(fmt.Sprintf("syntax=%s: davit's own Dockerfile frontend is used, whatever the version", source))
	}
	c := *b
	c.Options = maps.Clone(req.FrontendOpt)
	return builder.Build(ctx, &c)
}

// Warning tells of what goes against expectations and fails nothing.
func (b *Bridge) Warning(msg string) {
	b.Report(&client.SolveStatus{Warnings: []*client.VertexWarning{{Level: 1, Short: []byte(msg)}}})
}

// ResolveImageConfig is the older form of ResolveSourceMetadata.
func (b *Bridge) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return sourceresolver.NewImageMetaResolver(b).ResolveImageConfig(ctx, ref, opt)
}

// ResolveSourceMetadata finds an image and tells its configuration.
func (b *Bridge) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	ref, ok := strings.CutPrefix(op.Identifier, "docker-image://")
	if !ok {
		return &sourceresolver.MetaResponse{Op: op}, nil
	}
	platform, mode := "", ""
	if o := opt.ImageOpt; o != nil {
		mode = o.ResolveMode
		if o.Platform != nil {
			platform = ops.FormatPlatform(&pb.Platform{OS: o.Platform.OS, Architecture: o.Platform.Architecture, Variant: o.Platform.Variant})
		}
	}
	img, config, err := b.Host.Images.Resolve(ctx, ref, platform, mode)
	if err != nil {
		return nil, err
	}
	return &sourceresolver.MetaResponse{Op: op, Image: &sourceresolver.ResolveImageResponse{
		Digest: digest.Digest(imageDigest(img.Digest, img.ID)), Config: config,
	}}, nil
}

func imageDigest(manifest, id string) string {
	if manifest != "" {
		return manifest
	}
	return id
}

// Inputs are other frontends' results; there are none.
func (b *Bridge) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

// NewContainer would run processes for a frontend; the Dockerfile's needs none.
func (b *Bridge) NewContainer(context.Context, gateway.NewContainerRequest) (gateway.Container, error) {
	return nil, errors.New("davit runs no containers for build frontends")
}

// Warn passes a lint warning on to the progress display.
func (b *Bridge) Warn(_ context.Context, d digest.Digest, msg string, o gateway.WarnOpts) error {
	b.Report(&client.SolveStatus{Warnings: []*client.VertexWarning{{
		Vertex: d, Level: o.Level, Short: []byte(msg), Detail: o.Detail, URL: o.URL, SourceInfo: o.SourceInfo, Range: o.Range,
	}}})
	return nil
}
