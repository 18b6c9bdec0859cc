package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
)

// A Digester finds the digest of an image by its full name, such as sha256:…;
// it may be called from several goroutines.
type Digester func(ctx context.Context, image string) (string, error)

// A RenderOptions says how a project is written out.
type RenderOptions struct {
	Format string // yaml or json
	// Digests, when set, pins every image.
	Digests Digester
	// Lock leaves out everything but the pinned images: an override file.
	Lock bool
}

// Render writes the project out in the specification's canonical form, as
// `config` prints it.
func Render(ctx context.Context, o Options, r RenderOptions) ([]byte, []project.Warning, error) {
	if r.Format != "yaml" && r.Format != "json" {
		return nil, nil, fmt.Errorf("unsupported format %q: use yaml or json", r.Format)
	}
	if o.NoInterpolate {
		return renderModel(ctx, o, r)
	}
	l, err := load(ctx, o)
	if err != nil {
		return nil, l.warnings(), err
	}
	if r.Digests != nil {
		find := func(image string) (string, error) { return r.Digests(ctx, image) }
		if l.model, err = pin(l.model, find); err != nil {
			return nil, l.warnings(), err
		}
	}
	if r.Lock {
		l.warnOfHooks()
		out, err := encode(locked(l.model), r.Format)
		return out, l.warnings(), err
	}
	write := l.model.MarshalYAML
	if r.Format == "json" {
		write = l.model.MarshalJSON
	}
	out, err := write()
	if err != nil {
		return nil, l.warnings(), fmt.Errorf("write the project: %w", err)
	}
	return bytes.ReplaceAll(out, []byte("$"), []byte("$$")), l.warnings(), nil
}

// renderModel writes out files in which ${…} stays as it is.
func renderModel(ctx context.Context, o Options, r RenderOptions) ([]byte, []project.Warning, error) {
	l, model, err := loadModel(ctx, o)
	if err != nil {
		return nil, l.warnings(), err
	}
	if r.Digests != nil {
		if err := pinModel(model, func(image string) (string, error) { return r.Digests(ctx, image) }); err != nil {
			return nil, l.warnings(), err
		}
	}
	if r.Lock {
		model = lockedModel(l, model)
	}
	out, err := encode(model, r.Format)
	return out, l.warnings(), err
}

func loadModel(ctx context.Context, o Options) (*loaded, map[string]any, error) {
	l := &loaded{o: o}
	if err := l.prepare(ctx); err != nil {
		return l, nil, err
	}
	details := l.details()
	// The library fills variables without a value, and the text of secrets,
	// from the environment even where it does not interpolate.
	details.Environment = types.Mapping{}
	model, err := quietly(l, func() (map[string]any, error) {
		return loader.LoadModelWithContext(ctx, details, l.options)
	})
	if err != nil {
		return l, nil, l.explain(err)
	}
	delete(model, "version")
	return l, model, nil
}

func encode(v any, format string) ([]byte, error) {
	if format == "json" {
		return json.MarshalIndent(v, "", "  ")
	}
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(v), enc.Close())
	return buf.Bytes(), err
}

// ModelServices are the names of all services in files that are not
// interpolated, sorted.
func ModelServices(ctx context.Context, o Options) ([]string, []project.Warning, error) {
	o.NoInterpolate = true
	l, model, err := loadModel(ctx, o)
	if err != nil {
		return nil, l.warnings(), err
	}
	services, _ := model["services"].(map[string]any)
	return slices.Sorted(maps.Keys(services)), l.warnings(), nil
}
