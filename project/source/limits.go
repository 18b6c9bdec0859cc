package source

import (
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
)

// The limits that a compose file must keep: beyond them the loader's work
// grows faster than the file (measured on compose-go v2.16.2).
const (
	maxDepth    = 128
	maxAliases  = 10_000
	maxExpanded = 1_000_000 // nodes once aliases are written out
	maxKeys     = 5_000     // per mapping: the loader is quadratic in it
	maxNesting  = 64        // of ${…} in ${…}: the loader is worse than quadratic in it
)

// limits walks the whole file once.
func (f *File) limits() project.Errors {
	w := &walker{file: f, sizes: map[*yaml.Node]int{}}
	total := 0
	for _, doc := range f.Docs {
		total += w.walk(doc, 1)
	}
	switch {
	case len(w.errs) > 0:
	case w.aliases > maxAliases:
		w.errs = append(w.errs, &project.Error{File: f.Name, What: "has more than 10,000 aliases, the most that are allowed"})
	case total > maxExpanded:
		w.errs = append(w.errs, &project.Error{File: f.Name, What: "has more than 1,000,000 values once its aliases are written out, the most that are allowed"})
	}
	return w.errs
}

type walker struct {
	file    *File
	sizes   map[*yaml.Node]int // of anchored nodes, once walked
	open    map[*yaml.Node]bool
	aliases int
	errs    project.Errors
}

// walk returns how many nodes n stands for, capped.
func (w *walker) walk(n *yaml.Node, depth int) int {
	if depth > maxDepth {
		w.wrong(n, "", "is nested deeper than %d levels, the most that are allowed", maxDepth)
		return 0
	}
	if len(w.errs) > 0 && depth > 1 && len(w.errs) > 20 {
		return 0
	}
	switch n.Kind {
	case yaml.AliasNode:
		return w.alias(n)
	case yaml.ScalarNode:
		if nesting(n.Value) > maxNesting {
			w.wrong(n, "", "nests ${…} more than %d times, the most that are allowed", maxNesting)
		}
		return 1
	case yaml.MappingNode:
		w.keys(n)
	}
	if n.Anchor != "" {
		w.enter(n)
		defer delete(w.open, n)
	}
	size := 1
	for _, c := range n.Content {
		size = min(size+w.walk(c, depth+1), maxExpanded+1)
	}
	if n.Anchor != "" {
		w.sizes[n] = size
	}
	return size
}

func (w *walker) enter(n *yaml.Node) {
	if w.open == nil {
		w.open = map[*yaml.Node]bool{}
	}
	w.open[n] = true
}

func (w *walker) alias(n *yaml.Node) int {
	w.aliases++
	if w.open[n.Alias] {
		w.wrong(n, "take the alias out of what it stands for", "alias *%s stands within itself", printable([]byte(n.Value)))
		return 0
	}
	if size, ok := w.sizes[n.Alias]; ok {
		return size
	}
	return 1
}

// keys looks for keys given twice and for too many of them.
func (w *walker) keys(n *yaml.Node) {
	if len(n.Content)/2 > maxKeys {
		w.wrong(n, "", "has %d keys; %d are the most that are allowed in one mapping", len(n.Content)/2, maxKeys)
		return
	}
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			continue
		}
		if k.Value == "<<" && k.Tag == "!!merge" && !mergeable(n.Content[i+1]) {
			w.wrong(n.Content[i+1], "write <<: *NAME, or <<: [*ONE, *OTHER]", "only mappings can be merged with <<")
		}
		if first, twice := seen[k.Value]; twice {
			w.wrong(k, "keep one of the two", "key %q is already given in line %d", printable([]byte(k.Value)), first)
			continue
		}
		seen[k.Value] = k.Line
	}
}

// mergeable says whether << can take a value in: a mapping or a list of them.
func mergeable(n *yaml.Node) bool {
	n = follow(n)
	if n.Kind != yaml.SequenceNode {
		return n.Kind == yaml.MappingNode
	}
	for _, item := range n.Content {
		if follow(item).Kind != yaml.MappingNode {
			return false
		}
	}
	return true
}

func (w *walker) wrong(n *yaml.Node, fix, format string, args ...any) {
	w.errs = append(w.errs, w.file.Wrong(n, nil, fix, format, args...))
}

// nesting is how deep ${ stands within ${ in a value.
func nesting(s string) int {
	depth, deepest := 0, 0
	for i := strings.IndexByte(s, '$'); i >= 0 && i < len(s); i++ {
		switch {
		case s[i] == '$' && i+1 < len(s) && s[i+1] == '{':
			depth++
			deepest = max(deepest, depth)
			i++
		case s[i] == '}' && depth > 0:
			depth--
		}
	}
	return deepest
}
