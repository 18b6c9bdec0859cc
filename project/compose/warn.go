package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// unheeded warns of everything in the files that davit accepts and does not
// act on, once per place, by key and line.
func (l *loaded) unheeded() {
	w := &warner{loaded: l, seen: map[*yaml.Node]bool{}, base: map[*source.File]bool{}}
	for _, f := range l.tree.index.Files {
		w.file(f)
	}
}

type warner struct {
	*loaded
	seen map[*yaml.Node]bool // files reached twice warn once
	base map[*source.File]bool
}

func (w *warner) file(f *source.File) {
	for _, group := range f.Includes {
		for _, inc := range group {
			w.file(inc)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Bases)) {
		if b := f.Bases[name]; b != f && !w.base[b] {
			w.base[b] = true
			w.file(b)
		}
	}
	for _, doc := range f.Docs {
		if w.seen[doc] {
			continue
		}
		w.seen[doc] = true
		for i := range rows {
			if rows[i].Treat == warned {
				w.row(f, doc, &rows[i])
			}
		}
		w.extensions(f, doc)
	}
}

// row looks for the places in a document that a row is about.
func (w *warner) row(f *source.File, doc *yaml.Node, r *row) {
	parts := strings.Split(r.Path, ".")
	w.match(f, doc, nil, parts, nil, r)
}

func (w *warner) match(f *source.File, key *yaml.Node, value *yaml.Node, parts, path []string, r *row) {
	n := value
	if n == nil {
		n = key
	}
	n = resolve(n)
	if len(parts) == 0 {
		w.found(f, key, n, path, r)
		return
	}
	switch {
	case n.Kind == yaml.SequenceNode && parts[0] == "[]":
		for i, item := range n.Content {
			w.match(f, item, nil, parts[1:], append(slices.Clone(path), strconv.Itoa(i)), r)
		}
	case n.Kind == yaml.MappingNode:
		under := pairsOf(n, parts[0])
		if parts[0] == "*" {
			under = pairs(n, none)
		}
		for _, p := range under {
			name := p.key.Value
			if len(path) == 1 && path[0] == "services" && !w.active(f, name) {
				continue
			}
			w.match(f, p.key, p.value, parts[1:], append(slices.Clone(path), name), r)
		}
	}
}

func none(string) bool { return false }

// active says whether a service is part of what is asked for: it runs, or is in
// a file that another one extends from.
func (w *warner) active(f *source.File, name string) bool {
	if w.base[f] {
		return w.tree.extended[link{f.Path, name}]
	}
	_, ok := w.model.Services[name]
	return ok
}

func (w *warner) found(f *source.File, at, value *yaml.Node, path []string, r *row) {
	if value.Tag == "!reset" || value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null" {
		return
	}
	if len(r.Only) > 0 {
		text := (&validator{file: f, plain: w.o.NoInterpolate}).words(value)
		if slices.Contains(r.Only, text) || slices.Contains(r.Only, "!"+text) {
			return
		}
	}
	note := r.Note
	if r.Path == "version" {
		w.add(f, at, "", note)
		return
	}
	w.add(f, at, strings.Join(path, "."), "is not acted on: "+note)
}

func (v *validator) words(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	text, _ := v.text(n)
	return text
}

func (w *warner) add(f *source.File, n *yaml.Node, key, text string) {
	w.warns = append(w.warns, project.Warning{
		Position: project.Position{File: f.Name, Line: n.Line, Column: n.Column}, Key: key, Text: text,
	})
}

// known are davit's own extensions of a service, and their values.
var known = []struct {
	key    string
	values []string
}{
	{"x-once", []string{"true", "false"}},
	{"x-on-unhealthy", []string{"restart", "none"}},
	{"x-security", []string{"tight", "default"}},
	{"x-seccomp", []string{"no-compat32", "default"}},
}

// extensions warns of values that davit's own extensions do not have.
func (w *warner) extensions(f *source.File, doc *yaml.Node) {
	if n := value(doc, "x-isolate"); n != nil && !slices.Contains([]string{"true", "false"}, resolve(n).Value) {
		w.add(f, n, "x-isolate", fmt.Sprintf("%q is not one of: true, false", resolve(n).Value))
	}
	services := value(doc, "services")
	if services == nil {
		return
	}
	for _, p := range pairs(services, none) {
		name := p.key.Value
		if !w.active(f, name) {
			continue
		}
		for _, x := range known {
			n := value(p.value, x.key)
			if n != nil && !slices.Contains(x.values, resolve(n).Value) {
				w.add(f, n, "services."+name+"."+x.key, fmt.Sprintf("%q is not one of: %s", resolve(n).Value, strings.Join(x.values, ", ")))
			}
		}
		w.shared(f, name, p.value)
		w.options(f, name, p.value)
	}
}

// mountOptions are what may follow the second colon of a volume's short form.
var mountOptions = []string{"ro", "rw", "nocopy", "z", "Z", "private", "rprivate", "shared", "rshared", "slave", "rslave", "cached", "delegated", "consistent"}

// options warns of others, which the library leaves out without a word: one
// that was meant to be ro leaves a mount writable.
func (w *warner) options(f *source.File, name string, service *yaml.Node) {
	v := &validator{file: f, plain: w.o.NoInterpolate}
	for i, item := range list(value(service, "volumes")) {
		item = resolve(item)
		text := v.words(item)
		given := text[strings.LastIndexByte(text, ':')+1:]
		if strings.Count(text, ":") < 2 || strings.HasPrefix(given, "/") {
			continue
		}
		for _, option := range strings.Split(given, ",") {
			if option == "" || slices.Contains(mountOptions, option) {
				continue
			}
			note := fmt.Sprintf("%q is not a mount option, and is left out", option)
			if near := nearestOf(option, mountOptions); near != "" {
				note += fmt.Sprintf("; did you mean %q?", near)
			}
			w.add(f, item, "services."+name+".volumes."+strconv.Itoa(i), note)
		}
	}
}

// shared warns of mounts that volumes_from cannot take over.
func (w *warner) shared(f *source.File, name string, service *yaml.Node) {
	for i, item := range list(value(service, "volumes_from")) {
		item = resolve(item)
		at := "services." + name + ".volumes_from." + strconv.Itoa(i)
		from, _, _ := strings.Cut(item.Value, ":")
		if from == "container" {
			w.add(f, item, at, "is not acted on: volumes of a container outside the project are not taken over")
			continue
		}
		for _, v := range w.model.Services[from].Volumes {
			if v.Type == "volume" && v.Source == "" {
				w.add(f, item, at, fmt.Sprintf("the anonymous volume at %s is not taken over: give it a name", v.Target))
			}
		}
	}
}
