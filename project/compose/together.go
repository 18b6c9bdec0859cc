package compose

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

const (
	maxTogether = 1 << 20 // bytes of files above which only the first kind of mistakes is told
	maxRounds   = 4       // models built without what is known to be wrong
)

// together adds to the mistakes already known those that only show in a merged
// model: it builds one from what is right, and checks that. What is left is not
// always enough for a model; then the known ones are all that is told.
func (l *loaded) together(ctx context.Context, err error) error {
	var known project.Errors
	if !errors.As(err, &known) || l.tree == nil || !l.tree.read || l.o.NoConsistency || l.size() > maxTogether || len(known) >= maxMistakes {
		return err
	}
	files, warns := l.files, l.warns
	defer func() { l.files, l.warns = files, warns }()
	for range maxRounds {
		if l.files = l.without(known); l.files == nil {
			return l.sorted(known)
		}
		model, err := quietly(l, func() (*types.Project, error) { return l.build(ctx) })
		if err == nil {
			return l.sorted(append(known, l.besides(model, known)...))
		}
		var more project.Errors
		if !errors.As(l.explain(err), &more) || !news(more, known) {
			return l.sorted(known)
		}
		known = append(known, more...)
	}
	return l.sorted(known)
}

// news says whether all of more have a line and are not known yet.
func news(more, known project.Errors) bool {
	for _, e := range more {
		if e.Key == "" || e.Line == 0 || slices.ContainsFunc(known, func(k *project.Error) bool { return k.Key == e.Key && k.Line == e.Line }) {
			return false
		}
	}
	return true
}

// besides are the mistakes of a model that do not come from what was left out
// of it.
func (l *loaded) besides(model *types.Project, known project.Errors) project.Errors {
	found := check(model, &l.tree.index)
	if len(l.o.Services) == 0 {
		found = append(found, l.envFiles(model)...)
	}
	extends := slices.ContainsFunc(known, func(k *project.Error) bool { return strings.Contains(k.Key, ".extends") })
	return slices.DeleteFunc(found, func(e *project.Error) bool {
		if extends && strings.Count(e.Key, ".") == 1 {
			return true // what a whole service lacks may have been in what it extends
		}
		return slices.ContainsFunc(known, func(k *project.Error) bool {
			return k.Key == e.Key || strings.HasPrefix(k.Key, e.Key+".")
		})
	})
}

// sorted are the mistakes in the order of files and lines.
func (l *loaded) sorted(errs project.Errors) project.Errors {
	order := map[string]int{}
	for i, f := range l.tree.index.All() {
		order[f.Name] = i
	}
	slices.SortStableFunc(errs, func(a, b *project.Error) int {
		return cmp.Or(order[a.File]-order[b.File], a.Line-b.Line, a.Column-b.Column)
	})
	return errs
}

// without are the main files without what is wrong in them; nil where that
// would change what the rest means.
func (l *loaded) without(errs project.Errors) []types.ConfigFile {
	bad := map[*yaml.Node]bool{}
	for _, e := range errs {
		n := l.removable(e)
		if n == nil {
			return nil
		}
		bad[n] = true
	}
	out := slices.Clone(l.files)
	for i, f := range l.tree.index.Files {
		var content []byte
		for _, doc := range f.Docs {
			text, err := yaml.Marshal(prune(doc, bad))
			if err != nil {
				return nil
			}
			content = append(append(content, "---\n"...), text...)
		}
		out[i].Content = content
	}
	return out
}

// removable is the value that a mistake is about, when a model can do without
// it: an attribute, but no whole service and not what brings services in.
func (l *loaded) removable(e *project.Error) *yaml.Node {
	i := slices.IndexFunc(l.tree.index.Files, func(f *source.File) bool { return f.Name == e.File })
	parts := strings.Split(e.Key, ".")
	if i < 0 || e.Key == "" || parts[0] == "include" {
		return nil
	}
	if len(parts) == 2 || len(parts) > 2 && parts[2] == "profiles" {
		return nil
	}
	if spec := specification(); len(parts) == 1 && (spec.props[e.Key] != nil || nearest(e.Key, spec.props) != "") {
		return nil
	}
	f := l.tree.index.Files[i]
	own := source.Index{Files: []*source.File{f}}
	at, ok := own.Find(e.Key)
	if !ok || !at.Exact || at.File != f {
		return nil
	}
	return at.Value
}

// prune copies a tree without the bad nodes. A list that has one goes as a
// whole, because the places of the others would change.
func prune(n *yaml.Node, bad map[*yaml.Node]bool) *yaml.Node {
	out := *n
	out.Content = nil
	if n.Kind == yaml.ScalarNode && n.Value == "" && n.ShortTag() == "!!null" {
		out.Value = "null" // in {key: } nothing would come out as an empty string
	}
	for i := 0; i < len(n.Content); i++ {
		c := n.Content[i]
		if n.Kind != yaml.MappingNode {
			out.Content = append(out.Content, prune(c, bad))
			continue
		}
		i++
		if v := n.Content[i]; !spoilt(v, bad) {
			out.Content = append(out.Content, c, prune(v, bad))
		}
	}
	return &out
}

func spoilt(v *yaml.Node, bad map[*yaml.Node]bool) bool {
	if bad[v] || bad[resolve(v)] {
		return true
	}
	v = resolve(v)
	return v.Kind == yaml.SequenceNode && slices.ContainsFunc(v.Content, func(item *yaml.Node) bool {
		return bad[item] || bad[resolve(item)]
	})
}
