package compose

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// A Variable is one that the files ask for.
type Variable struct {
	Name          string
	DefaultValue  string
	PresenceValue string
	Required      bool
}

// Variables are those that the files name in ${…}, sorted.
func Variables(ctx context.Context, o Options) ([]Variable, error) {
	o.NoInterpolate = true
	_, model, err := loadModel(ctx, o)
	if err != nil {
		return nil, err
	}
	found := template.ExtractVariables(model, template.DefaultPattern)
	out := make([]Variable, 0, len(found))
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, Variable(found[name]))
	}
	return out, nil
}

// EncodeYAML writes v as config writes YAML.
func EncodeYAML(out io.Writer, v any) error {
	text, err := encode(v, "yaml")
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

// A Setting is one place that gives a variable a value.
type Setting struct {
	From  string // "the environment", or the .env file's name
	Value string
	Wins  bool
}

// Explain tells where a variable's value comes from: every place that sets it,
// the one whose word counts first.
func Explain(ctx context.Context, o Options, name string) ([]Setting, error) {
	at, err := find(o, newRemotes(ctx, o.Fetch))
	if err != nil {
		return nil, err
	}
	environ := o.Environ
	if environ == nil {
		environ = os.Environ()
	}
	var out []Setting
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			out = []Setting{{From: "the environment", Value: v}}
		}
	}
	for _, file := range at.envFiles {
		vars, err := dotenv.GetEnvFromFile(environment(environ, at.wd), []string{file})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		if v, ok := vars[name]; ok {
			out = append(out, Setting{From: file, Value: v})
		}
	}
	for i := range out {
		out[i].Wins = out[i].Value == at.env[name] && !slices.ContainsFunc(out[:i], func(s Setting) bool { return s.Wins })
	}
	return out, nil
}

// An Origin is where the value of one key path was written.
type Origin struct {
	Key      string
	Value    string
	Position project.Position
}

// Origins are the places of every value in the merged project, in the order of
// their keys.
func Origins(ctx context.Context, o Options) ([]Origin, []project.Warning, error) {
	l, err := load(ctx, o)
	if err != nil {
		return nil, l.warnings(), err
	}
	data, err := l.model.MarshalYAML()
	if err != nil {
		return nil, l.warnings(), err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, l.warnings(), err
	}
	var out []Origin
	if len(doc.Content) > 0 {
		leaves(doc.Content[0], nil, &l.tree.index, &out)
	}
	for i := range out {
		l.fromEnvFile(&out[i])
	}
	return out, l.warnings(), nil
}

// fromEnvFile finds the line of an env_file for a variable that no compose file
// names. Of several files that set it the last one's word counts.
func (l *loaded) fromEnvFile(o *Origin) {
	parts := strings.SplitN(o.Key, ".environment.", 2)
	service, ok := strings.CutPrefix(parts[0], "services.")
	if !ok || len(parts) < 2 {
		return
	}
	if at, found := l.tree.index.Find(o.Key); found && at.Exact {
		return
	}
	for _, path := range slices.Backward(l.envs[service]) {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for i, line := range strings.Split(string(content), "\n") {
			name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
			if strings.TrimSpace(name) == parts[1] {
				o.Position = project.Position{File: shown(l.at.wd, path), Line: i + 1}
			}
		}
		if o.Position.File == shown(l.at.wd, path) {
			return
		}
	}
}

func leaves(n *yaml.Node, path []string, index *source.Index, out *[]Origin) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			leaves(n.Content[i+1], append(slices.Clone(path), n.Content[i].Value), index, out)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			leaves(item, append(slices.Clone(path), fmt.Sprint(i)), index, out)
		}
	default:
		key := strings.Join(path, ".")
		*out = append(*out, Origin{Key: key, Value: n.Value, Position: index.Locate(key)})
	}
}
