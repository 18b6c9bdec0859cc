package compose

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// maxFiles bounds how many files a project may take in.
const maxFiles = 1000

// maxMistakes is how many mistakes are told of before the search ends.
const maxMistakes = 100

// A tree is all files of a project as they are written, each checked on its
// own before the loader sees any: what is found here has its line.
type tree struct {
	o       Options
	remotes *remotes
	wd      string // names below it are shown relative to it
	project string // its name
	env     map[string]string
	index   source.Index
	parsed  map[string]*source.File // by file, directory and role
	main    int                     // how many files are merged at the top
	errs    project.Errors
	warns   []project.Warning
	warned  map[string]bool // variables already told of
	count   int
	read    bool          // the main files are YAML within all limits
	looped  map[link]bool // services of a circle of extends already told of
	defined map[part]map[string]*yaml.Node

	extended map[link]bool // services that others extend
}

// plant reads and checks everything that the main files lead to.
func (l *loaded) plant() (*tree, error) {
	t := &tree{o: l.o, remotes: l.remotes, wd: l.at.wd, env: l.at.env, parsed: map[string]*source.File{}, warned: map[string]bool{}, main: len(l.files)}
	for _, file := range l.files {
		t.index.Files = append(t.index.Files, t.parse(file.Filename, file.Content, l.at.dir, l.at.env))
	}
	if len(t.errs) > 0 {
		return t, t.errs
	}
	if err := t.name(l.at.dir); err != nil {
		return t, project.Errors{err}
	}
	t.read = true
	for _, f := range t.index.Files {
		t.check(f)
	}
	for _, f := range t.index.Files {
		if t.leads() {
			t.follow(f, []string{f.Path})
		}
	}
	if err := t.crowded(); err != nil {
		t.errs = append(t.errs, err)
	}
	if len(t.errs) > 0 {
		return t, t.errs
	}
	return t, nil
}

// maxServices bounds a project, whatever files it comes from.
const maxServices = 5000

// crowded is the mistake of having more services than that.
func (t *tree) crowded() *project.Error {
	names := map[string]bool{}
	for _, f := range t.index.All() {
		for name := range t.definitions(f, "services") {
			names[name] = true
		}
	}
	if len(names) <= maxServices {
		return nil
	}
	return &project.Error{File: t.index.Files[0].Name, What: fmt.Sprintf("has %d services with all that it includes; %d are the most that are allowed", len(names), maxServices)}
}

// leads says whether what the files include and extend can be followed: nothing
// wrong was found in just that.
func (t *tree) leads() bool {
	return !slices.ContainsFunc(t.errs, func(e *project.Error) bool {
		return e.Key == "" || !strings.Contains(e.Key, ".") || strings.HasPrefix(e.Key, "include") || strings.Contains(e.Key, "extends")
	})
}

func (t *tree) parse(name string, content []byte, dir string, env map[string]string) *source.File {
	f, errs := source.Parse(t.display(name), content)
	f.Path, f.Dir, f.Env = name, dir, env
	t.count++
	t.errs = append(t.errs, errs...)
	return f
}

// display is a file's name as messages show it.
func (t *tree) display(path string) string {
	if name := t.remotes.name(path); name != "" {
		return name
	}
	return shown(t.wd, path)
}

func shown(wd, path string) string {
	if path == "-" {
		return "standard input"
	}
	if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "../../") && len(rel) < len(path) {
		return rel
	}
	return path
}

// route names the files of a chain.
func (t *tree) route(paths []string) string {
	words := make([]string, len(paths))
	for i, p := range paths {
		words[i] = t.display(p)
	}
	return strings.Join(words, " -> ")
}

// check looks at a file on its own.
func (t *tree) check(f *source.File) {
	t.errs = append(t.errs, t.expand(f)...)
	t.errs = append(t.errs, validate(f, t.o.NoInterpolate, t.partial(f))...)
}

// partial says whether what this file leaves out may come from another.
func (t *tree) partial(f *source.File) bool {
	return t.main > 1 || strings.Contains(string(f.Content), "extends") || t.count > 1
}

// open parses and checks a file that another one names at n.
func (t *tree) open(from *source.File, n *yaml.Node, key, path, dir string, env map[string]string) *source.File {
	id := path + "\x00" + dir
	if f, ok := t.parsed[id]; ok {
		return f
	}
	if t.count >= maxFiles {
		t.wrong(from, n, key, "", "leads to more than %d files, the most that are allowed", maxFiles)
		return nil
	}
	content, err := readFile(path, nil)
	if err != nil {
		what := err.Error()
		if pe, ok := err.(*project.Error); ok {
			what = t.display(path) + " " + pe.What
		}
		t.wrong(from, n, key, "make that file, or correct the path", "%s", what)
		return nil
	}
	before := len(t.errs)
	f := t.parse(path, content, dir, env)
	if len(t.errs) == before {
		t.check(f)
	}
	t.parsed[id] = f
	return f
}

func (t *tree) wrong(f *source.File, n *yaml.Node, key, fix, format string, args ...any) {
	t.errs = append(t.errs, f.Wrong(n, strings.Split(key, "."), fix, format, args...))
}

// follow opens what a file includes and extends; chain is how it was reached.
func (t *tree) follow(f *source.File, chain []string) {
	for _, doc := range f.Docs {
		if inc := value(doc, "include"); inc != nil {
			for _, item := range resolve(inc).Content {
				t.include(f, resolve(item), chain)
			}
		}
		for _, section := range []string{"services", "jobs"} {
			if services := value(doc, section); services != nil {
				for _, name := range entries(services, map[string]*yaml.Node{}) {
					if len(t.errs) < maxMistakes {
						t.extends(f, section, name, nil)
					}
				}
			}
		}
	}
}

// include opens one entry of include: a path, or a mapping with path,
// project_directory and env_file.
func (t *tree) include(f *source.File, item *yaml.Node, chain []string) {
	paths := []*yaml.Node{item}
	dir, envFiles := "", []*yaml.Node(nil)
	if item.Kind == yaml.MappingNode {
		paths = list(value(item, "path"))
		if d := value(item, "project_directory"); d != nil {
			if dir = absolute(f.Dir, t.text(f, d)); !t.inside(f, d, "include", dir) {
				return
			}
		}
		envFiles = list(value(item, "env_file"))
	}
	var group []*source.File
	var env map[string]string
	for i, n := range paths {
		path, ok := t.includePath(f, n, item)
		if !ok {
			return
		}
		if i == 0 {
			if dir == "" {
				dir = filepath.Dir(path)
			}
			if env = t.includeEnv(f, dir, envFiles); env == nil {
				return
			}
		}
		if at := slices.Index(chain, path); at >= 0 {
			t.wrong(f, n, "include", "take one of these includes out", "include cycle: %s", t.route(append(slices.Clone(chain[at:]), path)))
			return
		}
		if inc := t.open(f, n, "include", path, dir, env); inc != nil {
			group = append(group, inc)
		}
	}
	f.Includes = append(f.Includes, group)
	for _, inc := range group {
		if inc.Includes == nil && inc.Bases == nil && len(t.errs) == 0 {
			t.follow(inc, append(slices.Clone(chain), inc.Path))
		}
	}
}

// includePath is where one file of an entry of include lies; not ok when it may
// not be taken.
func (t *tree) includePath(f *source.File, n, item *yaml.Node) (path string, ok bool) {
	path = t.text(f, n)
	if remoteKind(path) == "" {
		path = absolute(f.Dir, path)
		return path, t.inside(f, n, "include", path)
	}
	if d := value(item, "project_directory"); d != nil && !filepath.IsAbs(t.text(f, d)) {
		t.wrong(f, d, "include", "write the whole path, or leave it out: paths of a remote file start where it lies", "the project_directory of a remote file is relative")
		return "", false
	}
	return t.remote(f, n, "include", path)
}

// includeEnv is what an included file is interpolated from: the project's
// environment, then the included project's own .env or env_file.
func (t *tree) includeEnv(f *source.File, dir string, named []*yaml.Node) map[string]string {
	var files []string
	for _, n := range named {
		if path := t.text(f, n); path != "/dev/null" {
			path = absolute(f.Dir, path)
			if !t.inside(f, n, "include", path) {
				return nil
			}
			files = append(files, path)
		}
	}
	if len(named) == 0 {
		if found := present(dir, []string{".env"}); len(found) > 0 {
			files = found
		}
	}
	if len(files) == 0 {
		return f.Env
	}
	vars, err := dotenv.GetEnvFromFile(f.Env, files)
	if e := (*project.Error)(nil); err != nil && errors.As(envError(t.wd, err), &e) {
		t.errs = append(t.errs, e)
		return nil
	}
	if err != nil {
		n := f.Docs[0]
		if len(named) > 0 {
			n = named[0]
		}
		t.wrong(f, n, "include", "", "%s", err)
		return nil
	}
	env := maps.Clone(f.Env)
	for k, v := range vars {
		if _, set := env[k]; !set {
			env[k] = v
		}
	}
	return env
}

func list(n *yaml.Node) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n = resolve(n); n.Kind == yaml.SequenceNode {
		return n.Content
	}
	return []*yaml.Node{n}
}

// text is a scalar with ${…} replaced.
func (t *tree) text(f *source.File, n *yaml.Node) string {
	s := resolve(n).Value
	if t.o.NoInterpolate {
		return s
	}
	if out, err := template.SubstituteWithOptions(s, lookup(f.Env), template.WithoutLogging); err == nil {
		return out
	}
	return s
}
