package source

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
)

// An Index finds where the values of a merged project were written.
type Index struct {
	Files []*File // in the order in which they are merged
}

// A Place is where one key path was written.
type Place struct {
	File  *File
	Key   *yaml.Node // nil for an item of a list
	Value *yaml.Node
	Exact bool // the path itself, not just something that encloses it
}

// Node is the node to point at: the key, or the item.
func (p Place) Node() *yaml.Node {
	if p.Key != nil {
		return p.Key
	}
	return p.Value
}

// Locate is where a key path such as "services.web.ports.0" was written. When
// it was written nowhere, the nearest enclosing key is meant.
func (x *Index) Locate(key string) project.Position {
	p, ok := x.Find(key)
	if !ok {
		if len(x.Files) > 0 {
			return project.Position{File: x.Files[0].Name}
		}
		return project.Position{}
	}
	n := p.Node()
	return project.Position{File: p.File.Name, Line: n.Line, Column: n.Column}
}

// Quote is the line that a position is in; empty when no file has it.
func (x *Index) Quote(at project.Position) string {
	for _, f := range x.All() {
		if f.Name == at.File {
			return f.Line(at.Line)
		}
	}
	return ""
}

// All are the files merged at the top and those they take in.
func (x *Index) All() []*File { return x.all(x.Files, nil) }

// all are the files given and those they take in.
func (x *Index) all(files, out []*File) []*File {
	for _, f := range files {
		if slices.Contains(out, f) {
			continue
		}
		out = append(out, f)
		for _, group := range f.Includes {
			out = x.all(group, out)
		}
		for _, name := range slices.Sorted(maps.Keys(f.Bases)) {
			out = x.all([]*File{f.Bases[name]}, out)
		}
	}
	return out
}

// Find is Locate with the nodes. Of several files that write a value the last
// one merged is meant, because its word counts.
func (x *Index) Find(key string) (Place, bool) {
	parts := strings.Split(key, ".")
	if len(parts) == 0 || parts[0] == "" {
		return Place{}, false
	}
	var best []Place
	rest := parts
	if len(parts) > 1 {
		best, rest = x.resource(parts)
	}
	if best == nil {
		best, rest = (&Index{Files: x.bases()}).resource(parts)
	}
	if best == nil {
		best, rest = x.top(parts)
	}
	if best == nil {
		return Place{}, false
	}
	return descend(best, rest), true
}

// bases are all files that are only extended from.
func (x *Index) bases() []*File {
	var out []*File
	for _, f := range x.Files {
		for _, name := range slices.Sorted(maps.Keys(f.Bases)) {
			out = append(out, f.Bases[name])
		}
	}
	return out
}

func (x *Index) top(parts []string) ([]Place, []string) {
	var out []Place
	for _, f := range x.Files {
		for _, doc := range f.Docs {
			if k, v := child(doc, parts[0]); v != nil {
				out = append(out, Place{File: f, Key: k, Value: v})
			}
		}
	}
	return out, parts[1:]
}

// resource finds everything that adds to services.NAME, networks.NAME and so
// on: names may have dots in them.
func (x *Index) resource(parts []string) ([]Place, []string) {
	for n := len(parts); n > 1; n-- {
		name := strings.Join(parts[1:n], ".")
		if found := contributors(x.Files, parts[0], name, 0); found != nil {
			return found, parts[n:]
		}
	}
	return nil, parts
}

// contributors are the definitions of one resource, the weakest first: what it
// extends, what is included, what the files say one after the other.
func contributors(files []*File, section, name string, depth int) []Place {
	if depth > maxDepth {
		return nil
	}
	var out []Place
	for _, f := range files {
		for _, group := range f.Includes {
			out = append(out, contributors(group, section, name, depth+1)...)
		}
		for _, doc := range f.Docs {
			_, resources := child(doc, section)
			if resources == nil {
				continue
			}
			k, v := child(resources, name)
			if v == nil {
				continue
			}
			own := Place{File: f, Key: k, Value: v}
			out = append(out, extended(f, files, section, name, v, depth)...)
			out = append(out, own)
		}
	}
	return out
}

func extended(f *File, files []*File, section, name string, service *yaml.Node, depth int) []Place {
	_, ext := child(service, "extends")
	if ext == nil {
		return nil
	}
	ext = follow(ext)
	base, in := ext.Value, files
	if ext.Kind == yaml.MappingNode {
		_, s := child(ext, "service")
		if s == nil {
			return nil
		}
		base = s.Value
		if _, file := child(ext, "file"); file != nil {
			b := f.Bases[file.Value]
			if b == nil {
				return nil
			}
			in = []*File{b}
			return contributors(in, section, base, depth+1)
		}
	}
	if base == name {
		return nil
	}
	return contributors(in, section, base, depth+1)
}

// descend follows the rest of the path in all places at once.
func descend(at []Place, rest []string) Place {
	for len(rest) > 0 {
		next, used := step(at, rest)
		if len(next) == 0 {
			return at[len(at)-1]
		}
		at, rest = next, rest[used:]
	}
	last := at[len(at)-1]
	last.Exact = true
	return last
}

// step goes one key down, or more when the key has dots in it.
func step(at []Place, rest []string) ([]Place, int) {
	for n := 1; n <= len(rest); n++ {
		name := strings.Join(rest[:n], ".")
		var next []Place
		items := 0
		for _, p := range at {
			k, v, count := inside(p.Value, name, items)
			items += count
			if v == nil {
				continue
			}
			if v.Tag == "!override" || v.Tag == "!reset" {
				next = nil
			}
			next = append(next, Place{File: p.File, Key: k, Value: v})
		}
		if len(next) > 0 {
			return next, n
		}
	}
	return nil, 0
}

// inside finds name in a mapping, an index in a list of which before items
// came from other files, or KEY=VALUE in a list that stands for a mapping.
func inside(n *yaml.Node, name string, before int) (key, value *yaml.Node, count int) {
	n = follow(n)
	if n.Kind != yaml.SequenceNode {
		key, value = child(n, name)
		return key, value, 0
	}
	if i, err := strconv.Atoi(name); err == nil {
		if i -= before; i >= 0 && i < len(n.Content) {
			return nil, n.Content[i], len(n.Content)
		}
		return nil, nil, len(n.Content)
	}
	for _, item := range n.Content {
		if v := follow(item).Value; v == name || strings.HasPrefix(v, name+"=") || strings.HasPrefix(v, name+":") {
			return nil, item, len(n.Content)
		}
	}
	return nil, nil, len(n.Content)
}

// child is a mapping's key and value, through aliases and merge keys; nil when
// there is none.
func child(n *yaml.Node, name string) (key, value *yaml.Node) { return childOf(n, name, 0) }

func childOf(n *yaml.Node, name string, depth int) (key, value *yaml.Node) {
	n = follow(n)
	if n.Kind != yaml.MappingNode || depth > maxDepth {
		return nil, nil
	}
	var merge *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch n.Content[i].Value {
		case name:
			return n.Content[i], n.Content[i+1]
		case "<<":
			merge = follow(n.Content[i+1])
		}
	}
	switch {
	case merge == nil:
	case merge.Kind == yaml.SequenceNode:
		for _, m := range merge.Content {
			if k, v := childOf(m, name, depth+1); v != nil {
				return k, v
			}
		}
	default:
		return childOf(merge, name, depth+1)
	}
	return nil, nil
}

// follow is what an alias stands for, or the node itself.
func follow(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < maxDepth; i++ {
		n = n.Alias
	}
	return n
}
