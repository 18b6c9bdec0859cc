package compose

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// confine holds every path in a remote file against the directory that came
// with the file. Each file is made a model of on its own, so that what local
// files merge into it is not its own word; what davit would read here for it
// is refused, what a container would see of this host is told.
func (l *loaded) confine(ctx context.Context) error {
	var errs project.Errors
	for _, f := range l.tree.index.All() {
		if f == nil || l.remotes.root(f.Path) == "" {
			continue
		}
		model, err := quietly(l, func() (map[string]any, error) { return l.alone(ctx, f) })
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		c := &confinement{tree: l.tree, file: f, index: source.Index{Files: []*source.File{f}}}
		c.model(model)
		errs = append(errs, c.errs...)
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// alone is the model of one file as it is written, in the long forms.
func (l *loaded) alone(ctx context.Context, f *source.File) (map[string]any, error) {
	details := types.ConfigDetails{
		WorkingDir: f.Dir, Environment: f.Env,
		ConfigFiles: []types.ConfigFile{{Filename: f.Path, Content: f.Content}},
	}
	return loader.LoadModelWithContext(ctx, details, l.options, func(o *loader.Options) {
		o.SkipInclude, o.SkipExtends, o.SkipNormalization, o.SkipDefaultValues, o.ResolvePaths = true, true, true, true, false
	})
}

// A confinement looks at the paths of one remote file.
type confinement struct {
	tree  *tree
	file  *source.File
	index source.Index
	errs  project.Errors
}

// model goes over everything in a model that names a path of this host: the
// same that the library makes absolute, and what only davit resolves.
func (c *confinement) model(m map[string]any) {
	for _, section := range []string{"services", "jobs"} {
		each(m[section], func(name string, v any) { c.service(section+"."+name, v) })
	}
	for _, section := range []string{"configs", "secrets"} {
		each(m[section], func(name string, v any) { c.reads(section+"."+name+".file", at(v, "file")) })
	}
	each(m["volumes"], func(name string, v any) {
		kind, _ := at(v, "driver_opts", "o").(string)
		if device, ok := at(v, "driver_opts", "device").(string); ok && (strings.HasPrefix(device, "/") || strings.Contains(kind, "bind")) {
			c.mounts("volumes."+name+".driver_opts.device", device)
		}
	})
}

func (c *confinement) service(key string, s any) {
	each(at(s, "env_file"), func(i string, v any) { c.reads(key+".env_file."+i, at(v, "path")) })
	each(at(s, "label_file"), func(i string, v any) { c.reads(key+".label_file."+i, v) })
	c.reads(key+".credential_spec.file", at(s, "credential_spec", "file"))
	each(at(s, "develop", "watch"), func(i string, v any) { c.reads(key+".develop.watch."+i+".path", at(v, "path")) })
	each(at(s, "volumes"), func(i string, v any) {
		if at(v, "type") == types.VolumeTypeBind {
			c.mounts(key+".volumes."+i, at(v, "source"))
		}
	})
	if program, ok := at(s, "provider", "type").(string); ok && strings.Contains(program, "/") {
		c.wrong(key+".provider.type", "a remote compose file may not run %s of this host", program)
	}
	if build := at(s, "build"); build != nil {
		c.build(key+".build", build)
	}
	each(at(s, "pre_start"), func(i string, v any) { c.service(key+".pre_start."+i, v) })
}

func (c *confinement) build(key string, b any) {
	context, _ := at(b, "context").(string)
	if !noPath(context) {
		c.reads(key+".context", context)
		if file, ok := at(b, "dockerfile").(string); ok {
			if !filepath.IsAbs(file) {
				file = filepath.Join(context, file)
			}
			c.reads(key+".dockerfile", file)
		}
	}
	each(at(b, "additional_contexts"), func(name string, v any) {
		if s, ok := v.(string); ok && !noPath(s) {
			c.reads(key+".additional_contexts."+name, s)
		}
	})
	each(at(b, "ssh"), func(name string, v any) {
		if s, ok := v.(string); ok && s != "" {
			_, path, named := strings.Cut(s, "=")
			if !named {
				path = s
			}
			if strings.ContainsAny(path, "/.") {
				c.reads(key+".ssh."+name, path)
			}
		}
	})
	for _, cache := range []string{"cache_from", "cache_to"} {
		each(at(b, cache), func(i string, v any) {
			s, _ := v.(string)
			for _, field := range strings.Split(s, ",") {
				if k, path, _ := strings.Cut(field, "="); k == "src" || k == "dest" {
					c.reads(key+"."+cache+"."+i, path)
				}
			}
		})
	}
}

// noPath says whether a build context is no path.
func noPath(context string) bool {
	return strings.Contains(context, "://") || strings.HasPrefix(context, types.ServicePrefix) || remoteKind(context) != ""
}

// reads refuses a path that davit itself would read, or write, for the file.
func (c *confinement) reads(key string, v any) {
	if path, ok := v.(string); ok && path != "" && !c.inside(path) {
		c.wrong(key, "a remote compose file may not read %s of this host", path)
	}
}

// mounts tells of a path that a container would see; one that is relative must
// not lead out of what was fetched.
func (c *confinement) mounts(key string, v any) {
	path, ok := v.(string)
	switch {
	case !ok || c.inside(path):
	case filepath.IsAbs(path) || strings.HasPrefix(path, "~"):
		w := project.Warning{Position: c.index.Locate(key), Key: key, Text: "a remote compose file has " + path + " of this host mounted"}
		c.tree.warns = append(c.tree.warns, w)
	default:
		c.wrong(key, "a remote compose file may not lead out of its directory with %s", path)
	}
}

func (c *confinement) inside(path string) bool {
	if strings.HasPrefix(path, "~") {
		return false
	}
	path = absolute(c.file.Dir, path)
	return c.tree.remotes.root(path) != "" || c.tree.given(c.file) && below(c.file.Dir, path)
}

func (c *confinement) wrong(key, format string, args ...any) {
	c.errs = append(c.errs, wrongAt(&c.index, key, "take that path out, or use a copy of the file that you have looked at", format, args...))
}

// at follows keys into a model; nil where there is nothing.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// each calls f for every entry of a mapping or list, or for a single value.
func each(v any, f func(key string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			f(k, v[k])
		}
	case []any:
		for i, item := range v {
			f(fmt.Sprint(i), item)
		}
	case string:
		f("0", v)
	}
}
