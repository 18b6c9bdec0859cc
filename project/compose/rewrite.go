package compose

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/artifact"
	"github.com/davit-run/davit/project/source"
)

// content is a file as it is published: the files that it reads go along, and
// are called by the names that they have there. All else, comments and ${…}
// included, stays as it is written.
func (w *publisher) content(f *source.File) ([]byte, error) {
	w.suspect(f.Path, f.Content)
	r := rewriting{file: f, to: map[*yaml.Node]string{}}
	for _, section := range []string{"services", "jobs"} {
		defined := w.l.tree.definitions(f, section)
		for _, name := range slices.Sorted(maps.Keys(defined)) {
			if err := w.service(&r, resolve(defined[name])); err != nil {
				return nil, err
			}
		}
	}
	return r.apply()
}

// service sends along what one service, or a hook of it, reads.
func (w *publisher) service(r *rewriting, s *yaml.Node) error {
	var read []*yaml.Node
	if w.options.WithEnv {
		read = list(value(s, "env_file"))
	}
	read = append(read, list(value(s, "label_file"))...)
	for _, n := range read {
		if path := value(n, "path"); path != nil {
			n = path
		}
		n = resolve(n)
		name, err := w.envFile(absolute(r.file.Dir, w.l.tree.text(r.file, n)))
		if err != nil {
			return err
		}
		if name != "" {
			r.to[n] = name
		}
	}
	if err := w.extends(r, value(s, "extends")); err != nil {
		return err
	}
	for _, hook := range list(value(s, "pre_start")) {
		if err := w.service(r, resolve(hook)); err != nil {
			return err
		}
	}
	return nil
}

// extends sends the file along that a service extends from; a remote one is
// fetched again by whoever uses the project.
func (w *publisher) extends(r *rewriting, ext *yaml.Node) error {
	if ext == nil {
		return nil
	}
	n := value(ext, "file")
	if n == nil || remoteKind(w.l.tree.text(r.file, n)) != "" {
		return nil
	}
	base := r.file.Bases[n.Value]
	if base == nil || base == r.file {
		return nil
	}
	name, ok := w.done[base]
	if !ok {
		content, err := w.content(base)
		if err != nil {
			return err
		}
		name = w.add(content, ".yaml", func(name string) artifact.Part {
			return artifact.ComposeFile(name, w.options.Version, content, true)
		})
		w.done[base] = name
	}
	r.to[resolve(n)] = name
	return nil
}

// A rewriting is a file with some of its values to be replaced.
type rewriting struct {
	file *source.File
	to   map[*yaml.Node]string
}

// apply replaces the values, the last one first so that the places of the
// others stay.
func (r *rewriting) apply() ([]byte, error) {
	nodes := make([]*yaml.Node, 0, len(r.to))
	for n := range r.to {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *yaml.Node) int {
		if a.Line != b.Line {
			return b.Line - a.Line
		}
		return b.Column - a.Column
	})
	content := bytes.Clone(r.file.Content)
	for _, n := range nodes {
		start, end := r.place(content, n)
		if start < 0 {
			return nil, project.Errors{r.file.Wrong(n, nil, "write it on one line, without escapes", "this path cannot be replaced by its published name")}
		}
		content = slices.Concat(content[:start], []byte(r.to[n]), content[end:])
	}
	return content, nil
}

// place is where a scalar stands in the text; start is -1 where it is not
// written as it reads.
func (r *rewriting) place(content []byte, n *yaml.Node) (start, end int) {
	offset := 0
	for range n.Line - 1 {
		offset += bytes.IndexByte(content[offset:], '\n') + 1
	}
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(content[offset:])
		offset += size
	}
	quote := ""
	switch n.Style &^ yaml.TaggedStyle {
	case yaml.DoubleQuotedStyle:
		quote = `"`
	case yaml.SingleQuotedStyle:
		quote = "'"
	}
	written := quote + n.Value + quote
	if !strings.HasPrefix(string(content[offset:]), written) {
		return -1, -1
	}
	return offset, offset + len(written)
}
