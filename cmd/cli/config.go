package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/registry"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/compose"
	"github.com/davit-run/davit/project/order"
)

type configOptions struct {
	format, output, hash, explain                                  string
	services, images, volumes, networks, models, profiles          bool
	environment, variables, origin, lint, quiet, resolve, lock     bool
	noInterpolate, noNormalize, noPaths, noConsistency, noEnvFiles bool
}

func newConfig(g *globals) *cobra.Command {
	var o configOptions
	c := &cobra.Command{
		Use:     "config [OPTIONS] [SERVICE...]",
		Aliases: []string{"convert"},
		Short:   "Parse, resolve and render compose file in canonical format",
		RunE: func(c *cobra.Command, args []string) error {
			return g.runConfig(c.Context(), g.out, o, args)
		},
	}
	f := c.Flags()
	f.StringVar(&o.format, "format", "", "Format the output. Values: [yaml | json]")
	f.StringVarP(&o.output, "output", "o", "", "Save to file (default to stdout)")
	f.StringVar(&o.hash, "hash", "", "Print the service config hash, one per line.")
	f.StringVar(&o.explain, "explain", "", "Print where the value of a variable comes from.")
	for name, flag := range map[string]struct {
		at   *bool
		text string
	}{
		"services":              {&o.services, "Print the service names, one per line."},
		"images":                {&o.images, "Print the image names, one per line."},
		"volumes":               {&o.volumes, "Print the volume names, one per line."},
		"networks":              {&o.networks, "Print the network names, one per line."},
		"models":                {&o.models, "Print the model names, one per line."},
		"profiles":              {&o.profiles, "Print the profile names, one per line."},
		"environment":           {&o.environment, "Print environment used for interpolation."},
		"variables":             {&o.variables, "Print model variables and default values."},
		"origin":                {&o.origin, "Print file and line of every value."},
		"lint":                  {&o.lint, "Only check, and fail for warnings too."},
		"resolve-image-digests": {&o.resolve, "Pin image tags to digests"},
		"lock-image-digests":    {&o.lock, "Produces an override file with image digests"},
		"no-interpolate":        {&o.noInterpolate, "Don't interpolate environment variables"},
		"no-normalize":          {&o.noNormalize, "Don't normalize compose model"},
		"no-path-resolution":    {&o.noPaths, "Don't resolve file paths"},
		"no-consistency":        {&o.noConsistency, "Don't check model consistency - warning: may produce invalid Compose output"},
		"no-env-resolution":     {&o.noEnvFiles, "Don't resolve service env files"},
	} {
		f.BoolVar(flag.at, name, false, flag.text)
	}
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only validate the configuration, don't print anything")
	return c
}

// runConfig prints the project, or the one view of it that is asked for.
func (g *globals) runConfig(ctx context.Context, out io.Writer, o configOptions, services []string) error {
	switch {
	case o.listsAll() && len(services) > 0:
		services = nil // as docker compose has it
	case o.variables && len(services) > 0:
		g.warn([]project.Warning{{Text: "service filtering is not applied when --variables is set, variables from the full model will be rendered"}})
	case o.noInterpolate && len(services) > 0:
		g.warn([]project.Warning{{Text: "service filtering is not applied when --no-interpolate is set, the full model will be rendered"}})
	}
	load := g.composeOptions(services)
	load.NoInterpolate, load.NoNormalize = o.noInterpolate, o.noNormalize || g.compatibility
	load.NoResolvePaths, load.NoConsistency, load.NoEnvFiles = o.noPaths, o.noConsistency, o.noEnvFiles
	switch {
	case o.explain != "":
		return explainVariable(ctx, out, load, o.explain)
	case o.variables:
		return listVariables(ctx, out, load, o.format)
	case o.origin:
		return g.listOrigins(ctx, out, load)
	case o.noInterpolate && o.services:
		return g.listModel(ctx, out, load)
	case o.lists() || o.lint || o.quiet:
		return g.listProject(ctx, out, o, load)
	}
	r := compose.RenderOptions{Format: o.format, Lock: o.lock}
	if r.Format == "" {
		r.Format = "yaml"
	}
	if o.resolve || o.lock {
		r.Digests = g.digest
	}
	content, warnings, err := compose.Render(ctx, load, r)
	g.warn(warnings)
	if err != nil {
		return err
	}
	if o.output != "" {
		return os.WriteFile(o.output, content, 0o666)
	}
	_, err = out.Write(content)
	return err
}

func (g *globals) warn(warnings []project.Warning) {
	for _, w := range warnings {
		render.Warning(g.err, w)
	}
}

func (o configOptions) lists() bool {
	return o.services || o.images || o.volumes || o.networks || o.models || o.profiles || o.environment || o.hash != ""
}

// listsAll says whether what is listed is that of the whole project, whatever
// services are named.
func (o configOptions) listsAll() bool {
	return o.services || o.volumes || o.networks || o.models || o.hash != ""
}

// listProject prints names out of the loaded project.
func (g *globals) listProject(ctx context.Context, out io.Writer, o configOptions, load compose.Options) error {
	load.NoEnvFiles = load.NoEnvFiles || o.lists() && o.hash == ""
	p, warnings, err := compose.Load(ctx, load)
	g.warn(warnings)
	if err != nil {
		return err
	}
	lines, err := o.lines(p)
	if err != nil {
		return err
	}
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	if o.lint && len(warnings) > 0 {
		return fmt.Errorf("%s", plural(len(warnings), "warning"))
	}
	return nil
}

func plural(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

func (o configOptions) lines(p *project.Project) ([]string, error) {
	switch {
	case o.services:
		return inOrder(p)
	case o.volumes:
		return names(p.Volumes), nil
	case o.networks:
		return names(p.Networks), nil
	case o.models:
		var out []string
		for _, name := range names(p.Models) {
			if model := p.Models[name].Model; model != "" {
				out = append(out, model)
			}
		}
		return out, nil
	case o.hash != "":
		return hashes(p, o.hash)
	case o.profiles:
		return profiles(p), nil
	case o.images:
		var out []string
		for _, name := range p.ServiceNames() {
			out = append(out, p.ImageName(p.Services[name]))
		}
		return out, nil
	case o.environment:
		var out []string
		for _, name := range names(p.Environment) {
			out = append(out, name+"="+p.Environment[name])
		}
		return out, nil
	}
	return nil, nil
}

// inOrder are the services, what they depend on first.
func inOrder(p *project.Project) ([]string, error) {
	needs := map[string][]string{}
	for name, s := range p.Services {
		needs[name] = names(s.DependsOn)
	}
	return order.Sort(needs)
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func hashes(p *project.Project, which string) ([]string, error) {
	services := p.ServiceNames()
	if which != "*" {
		services = strings.Split(which, ",")
		slices.Sort(services)
	}
	var out []string
	for _, name := range services {
		s, err := p.Service(name)
		if err != nil {
			return nil, err
		}
		out = append(out, name+" "+s.Hash)
	}
	return out, nil
}

func profiles(p *project.Project) []string {
	all := map[string]bool{}
	for _, s := range p.AllServices() {
		for _, name := range s.Profiles {
			all[name] = true
		}
	}
	return names(all)
}

// listModel prints the services of files that are not interpolated.
func (g *globals) listModel(ctx context.Context, out io.Writer, load compose.Options) error {
	services, warnings, err := compose.ModelServices(ctx, load)
	g.warn(warnings)
	for _, name := range services {
		fmt.Fprintln(out, name)
	}
	return err
}

func listVariables(ctx context.Context, out io.Writer, load compose.Options, format string) error {
	variables, err := compose.Variables(ctx, load)
	if err != nil {
		return err
	}
	byName := map[string]compose.Variable{}
	for _, v := range variables {
		byName[v.Name] = v
	}
	switch format {
	case "", "table", "pretty":
	case "json":
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "    ")
		return e.Encode(byName)
	case "yaml":
		return compose.EncodeYAML(out, byName)
	default:
		return fmt.Errorf("--format %q: use one of table, json, yaml", format)
	}
	w := tabwriter.NewWriter(out, 20, 1, 3, ' ', 0)
	fmt.Fprintln(w, "NAME\tREQUIRED\tDEFAULT VALUE\tALTERNATE VALUE")
	for _, v := range variables {
		fmt.Fprintf(w, "%s\t%t\t%s\t%s\n", v.Name, v.Required, v.DefaultValue, v.PresenceValue)
	}
	return w.Flush()
}

func explainVariable(ctx context.Context, out io.Writer, load compose.Options, name string) error {
	settings, err := compose.Explain(ctx, load, name)
	if err != nil {
		return err
	}
	if len(settings) == 0 {
		fmt.Fprintf(out, "%s is not set\n", name)
	}
	for _, s := range settings {
		mark := "  (not used)"
		if s.Wins {
			mark = ""
		}
		fmt.Fprintf(out, "%s=%s  from %s%s\n", name, s.Value, s.From, mark)
	}
	return nil
}

func (g *globals) listOrigins(ctx context.Context, out io.Writer, load compose.Options) error {
	origins, warnings, err := compose.Origins(ctx, load)
	g.warn(warnings)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 1, 2, ' ', 0)
	for _, o := range origins {
		fmt.Fprintf(w, "%s\t%s\t%q\n", o.Position, o.Key, o.Value)
	}
	return w.Flush()
}

// digest is what its registry has under an image's name now; where no registry
// can be reached, what this host had of it.
func (g *globals) digest(ctx context.Context, ref string) (string, error) {
	layout, err := store.Locate(g.root)
	if err != nil {
		return "", err
	}
	e := local.Open(layout)
	defer e.Close()
	c, err := e.Registry(local.RegistryOptions{Insecure: g.insecure})
	if err != nil {
		return "", err
	}
	defer c.Close()
	digest, err := c.Digest(ctx, ref)
	if errors.Is(err, registry.ErrUnreachable) {
		if img, here := e.ImageStore().Resolve(ref); here == nil && img.Digest != "" {
			digest, err = img.Digest, nil
		}
	}
	return digest, err
}
