package compose

import (
	"context"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/paths"
	"github.com/compose-spec/compose-go/v2/transform"
	"github.com/compose-spec/compose-go/v2/types"
)

// build has the library merge the files and make a model of them.
//
// Three of its walks (relative paths, defaults, decoding) go over every edge of
// depends_on with dozens of patterns, or by reflection, and find nothing there:
// three quarters of the time that 2,000 services with layers of dependencies
// take. Those edges are kept out of them. Where files are included the walks
// are part of merging, and stay with the library.
func (l *loaded) build(ctx context.Context) (*types.Project, error) {
	details := l.details()
	if l.includes() {
		return loader.LoadWithContext(ctx, details, l.options)
	}
	opts := loader.ToOptions(&details, []func(*loader.Options){l.options})
	dict, err := loader.LoadModelWithContext(ctx, details, l.options, func(o *loader.Options) {
		o.ResolvePaths, o.SkipDefaultValues, o.SkipNormalization = false, true, true
	})
	if err != nil {
		return nil, err
	}
	put := take(dict)
	if dict, err = transform.SetDefaultValues(dict); err != nil {
		return nil, err
	}
	if opts.ResolvePaths {
		remote := []paths.RemoteResource{l.remotes.Accept}
		if err := paths.ResolveRelativePaths(dict, details.WorkingDir, remote); err != nil {
			return nil, err
		}
	}
	put()
	if !opts.SkipNormalization {
		dict["name"] = l.tree.project
		if dict, err = loader.Normalize(dict, details.Environment); err != nil {
			return nil, err
		}
	}
	return decode(dict, opts, details)
}

// includes says whether any file takes in others.
func (l *loaded) includes() bool {
	for _, f := range l.tree.index.Files {
		if len(f.Includes) > 0 {
			return true
		}
	}
	return false
}

// dependents are the mappings of the services in a model that have depends_on.
func dependents(dict map[string]any) map[string]map[string]any {
	out := map[string]map[string]any{}
	services, _ := dict["services"].(map[string]any)
	for name, v := range services {
		if s, ok := v.(map[string]any); ok && s["depends_on"] != nil {
			out[name] = s
		}
	}
	return out
}

// take takes depends_on out of every service, until put is called.
func take(dict map[string]any) (put func()) {
	services := dependents(dict)
	kept := make(map[string]any, len(services))
	for name, s := range services {
		kept[name] = s["depends_on"]
		delete(s, "depends_on")
	}
	return func() {
		for name, s := range services {
			s["depends_on"] = kept[name]
		}
	}
}

// decode turns a model into the library's types, with the edges of depends_on
// turned by hand.
func decode(dict map[string]any, opts *loader.Options, details types.ConfigDetails) (*types.Project, error) {
	needs := map[string]types.DependsOnConfig{}
	for name, s := range dependents(dict) {
		if edges, ok := edgesOf(s["depends_on"]); ok {
			needs[name] = edges
			delete(s, "depends_on")
		}
	}
	p, err := loader.ModelToProject(dict, opts, details)
	if err != nil {
		return nil, err
	}
	for _, services := range []types.Services{p.Services, p.DisabledServices} {
		for name, s := range services {
			if edges, ok := needs[name]; ok {
				s.DependsOn = edges
				services[name] = s
			}
		}
	}
	return p, nil
}

// edgesOf reads depends_on in its canonical form; not ok when there is anything
// else in it, which is then the library's to read.
func edgesOf(v any) (types.DependsOnConfig, bool) {
	edges, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	out := make(types.DependsOnConfig, len(edges))
	for name, v := range edges {
		edge, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		var d types.ServiceDependency
		for k, v := range edge {
			switch k {
			case "condition":
				d.Condition, ok = v.(string)
			case "restart":
				d.Restart, ok = v.(bool)
			case "required":
				d.Required, ok = v.(bool)
			default:
				ok = false
			}
			if !ok {
				return nil, false
			}
		}
		out[name] = d
	}
	return out, true
}
