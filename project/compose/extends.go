package compose

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project/source"
)

// A link is one service of a chain of extends.
type link struct{ file, service string }

func (l link) String() string { return l.service + " in " + filepath.Base(l.file) }

// extends opens the file that a service extends from, and follows the chain to
// its end.
func (t *tree) extends(f *source.File, section, name string, chain []link) {
	service := t.definition(f, section, name)
	if service == nil {
		return
	}
	ext := value(service, "extends")
	if ext == nil || ext.Tag == "!reset" {
		return
	}
	ext = resolve(ext)
	key := section + "." + name + ".extends"
	here := link{f.Path, name}
	if t.looped[here] {
		return
	}
	if at := slices.Index(chain, here); at >= 0 {
		t.looped = map[link]bool{}
		for _, l := range chain {
			t.looped[l] = true
		}
		t.wrong(f, ext, key, "take one of these extends out", "extends cycle: %s", chainText(append(slices.Clone(chain[at:]), here)))
		return
	}
	chain = append(chain, here)
	in, base := t.target(f, ext, key)
	if in == nil {
		return
	}
	if in != f && t.definition(in, section, base) == nil {
		t.wrong(f, ext, key, t.near(in, section, base), "service %q is not in %s", base, in.Name)
		return
	}
	if in == f && t.definition(f, section, base) == nil && !t.elsewhere(section, base) {
		t.wrong(f, ext, key, t.near(f, section, base), "service %q is not there to be extended", base)
		return
	}
	if t.extended == nil {
		t.extended = map[link]bool{}
	}
	t.extended[link{in.Path, base}] = true
	t.extends(in, section, base, chain)
}

// target reads the two forms of extends: the file and the service in it. A
// nil file stands for a mistake that has been told of.
func (t *tree) target(f *source.File, ext *yaml.Node, key string) (*source.File, string) {
	if ext.Kind != yaml.MappingNode {
		return f, t.text(f, ext)
	}
	s := value(ext, "service")
	if s == nil {
		t.wrong(f, ext, key, "add service: and the name of the service to extend", "service is missing")
		return nil, ""
	}
	if file := value(ext, "file"); file != nil {
		return t.base(f, file, key), t.text(f, s)
	}
	return f, t.text(f, s)
}

// base opens the file that extends.file names.
func (t *tree) base(f *source.File, n *yaml.Node, key string) *source.File {
	path := t.text(f, n)
	if remoteKind(path) != "" {
		var ok bool
		if path, ok = t.remote(f, n, key+".file", path); !ok {
			return nil
		}
	} else if path = absolute(f.Dir, path); !t.inside(f, n, key+".file", path) {
		return nil
	}
	b := t.open(f, n, key+".file", path, filepath.Dir(path), f.Env)
	if b == nil {
		return nil
	}
	if f.Bases == nil {
		f.Bases = map[string]*source.File{}
	}
	f.Bases[n.Value] = b
	return b
}

// elsewhere says whether an included or other main file has the service.
func (t *tree) elsewhere(section, name string) bool {
	at, found := t.index.Find(section + "." + name)
	return found && at.Exact || t.main > 1
}

// A part is one section of one file.
type part struct {
	file    *source.File
	section string
}

// definitions are the services or jobs of a file by their names.
func (t *tree) definitions(f *source.File, section string) map[string]*yaml.Node {
	key := part{f, section}
	if out, ok := t.defined[key]; ok {
		return out
	}
	out := map[string]*yaml.Node{}
	for _, doc := range f.Docs {
		if n := value(doc, section); n != nil {
			entries(n, out)
		}
	}
	if t.defined == nil {
		t.defined = map[part]map[string]*yaml.Node{}
	}
	t.defined[key] = out
	return out
}

func (t *tree) definition(f *source.File, section, name string) *yaml.Node {
	if s := t.definitions(f, section)[name]; s != nil {
		return resolve(s)
	}
	return nil
}

func (t *tree) near(f *source.File, section, name string) string {
	if n := nearestOf(name, slices.Sorted(maps.Keys(t.definitions(f, section)))); n != "" {
		return `did you mean "` + n + `"?`
	}
	return ""
}

func chainText(chain []link) string {
	words := make([]string, len(chain))
	for i, l := range chain {
		words[i] = l.String()
	}
	return strings.Join(words, " -> ")
}
