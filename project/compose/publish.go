package compose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/artifact"
	"github.com/davit-run/davit/project/source"
)

// A PublishOptions says what goes along with the compose files.
type PublishOptions struct {
	// WithEnv sends environment variables that the files write out, and the
	// files of env_file.
	WithEnv bool
	// Version is the docker compose that the parts name as theirs.
	Version string
}

// A Publication is a project ready to be published.
type Publication struct {
	Parts  []artifact.Part
	Images []string // of all services, each once
	Built  []string // those of them that a service builds
	// Binds are the directories of the publisher's host that the files name,
	// and Sensitive is what looks like a secret in them: each worth a question.
	Binds, Sensitive []string

	model   *types.Project
	version string
}

// Publish makes the parts of an artefact out of the compose files, as they are
// written: only the names of the files that go along are changed. Services of
// all profiles count.
func Publish(ctx context.Context, o Options, p PublishOptions) (*Publication, []project.Warning, error) {
	o.Profiles, o.AllResources, o.NoEnvFiles = []string{"*"}, true, true
	l, err := load(ctx, o)
	if err != nil {
		return nil, l.warnings(), err
	}
	w := &publisher{l: l, options: p, done: map[*source.File]string{}, names: map[string]bool{}}
	if err := w.allowed(); err != nil {
		return nil, l.warnings(), err
	}
	for _, f := range l.tree.index.Files {
		content, err := w.content(f)
		if err != nil {
			return nil, l.warnings(), err
		}
		w.out.Parts = append(w.out.Parts, artifact.ComposeFile(f.Path, p.Version, content, false))
	}
	w.out.Parts = append(w.out.Parts, w.beside...)
	w.resources()
	w.out.model, w.out.version = l.model, p.Version
	return &w.out, l.warnings(), nil
}

type publisher struct {
	l       *loaded
	options PublishOptions
	out     Publication
	beside  []artifact.Part
	done    map[*source.File]string // names of files that others extend
	names   map[string]bool         // of parts beside the main files
}

// allowed refuses what cannot be published, or not without --with-env.
func (w *publisher) allowed() error {
	for _, f := range w.l.tree.index.Files {
		if f.Path == "-" {
			return errors.New("cannot publish a compose file from standard input: it has no name")
		}
		for _, group := range f.Includes {
			for _, inc := range group {
				if w.l.remotes.root(inc.Path) == "" {
					return errors.New("cannot publish compose file with local includes: publish what is included on its own, and include that")
				}
			}
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(w.l.model.Services)) {
		if s := w.l.model.Services[name]; s.Image == "" && s.Build != nil {
			lines = append(lines, fmt.Sprintf("- %q", name))
		}
	}
	if len(lines) > 0 {
		return fmt.Errorf("your Compose stack cannot be published as it only contains a build section for service(s):\n%s\ngive each of them an image: name", strings.Join(lines, "\n"))
	}
	if lines = w.environment(); len(lines) > 0 && !w.options.WithEnv {
		return fmt.Errorf("%s\nTo avoid leaking sensitive data, you must either explicitly allow the sending of environment variables by using the --with-env flag,\nor remove sensitive data from your Compose configuration", strings.Join(lines, "\n"))
	}
	return nil
}

// environment tells of every env_file and of every variable whose value the
// files write out; ${…} is filled in where the project is used.
func (w *publisher) environment() []string {
	literal, files := map[string]map[string]bool{}, map[string]bool{}
	w.services(func(f *source.File, name string, service *yaml.Node) {
		if value(service, "env_file") != nil {
			files[name] = true
		}
		for _, k := range literals(value(service, "environment")) {
			if literal[name] == nil {
				literal[name] = map[string]bool{}
			}
			literal[name][fmt.Sprintf("%q", k)] = true
		}
	})
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(w.l.model.AllServices())) {
		if files[name] {
			lines = append(lines, fmt.Sprintf("service %q has env_file declared.", name))
		}
		switch found := slices.Sorted(maps.Keys(literal[name])); {
		case len(found) == 1:
			lines = append(lines, fmt.Sprintf("service %q has literal environment variable %s.", name, found[0]))
		case len(found) > 1:
			lines = append(lines, fmt.Sprintf("service %q has literal environment variables: %s.", name, strings.Join(found, ", ")))
		}
	}
	for _, name := range w.literalConfigs() {
		lines = append(lines, fmt.Sprintf("config %q has literal inline content.", name))
	}
	return lines
}

// services calls f for every service of every local file.
func (w *publisher) services(do func(f *source.File, name string, service *yaml.Node)) {
	for _, f := range w.l.tree.index.All() {
		if w.l.remotes.root(f.Path) != "" {
			continue
		}
		for _, section := range []string{"services", "jobs"} {
			defined := w.l.tree.definitions(f, section)
			for _, name := range slices.Sorted(maps.Keys(defined)) {
				do(f, name, resolve(defined[name]))
			}
		}
	}
}

// literals are the names of the variables that have their value written out.
func literals(environment *yaml.Node) []string {
	var out []string
	found := map[string]*yaml.Node{}
	for _, name := range entries(orNone(environment), found) {
		if n := resolve(found[name]); n.Tag != "!!null" && n.Value != "" && !interpolated(n.Value) {
			out = append(out, name)
		}
	}
	if environment != nil && resolve(environment).Kind == yaml.SequenceNode {
		for _, item := range resolve(environment).Content {
			if name, v, given := strings.Cut(resolve(item).Value, "="); given && v != "" && !interpolated(v) {
				out = append(out, name)
			}
		}
	}
	return out
}

func orNone(n *yaml.Node) *yaml.Node {
	if n == nil {
		return &yaml.Node{}
	}
	return n
}

// interpolated says whether a text has ${…} or $NAME in it; $$ is a dollar.
func interpolated(s string) bool {
	return strings.Contains(strings.ReplaceAll(s, "$$", ""), "$")
}

func (w *publisher) literalConfigs() []string {
	found := map[string]bool{}
	for _, f := range w.l.tree.index.Files {
		for _, doc := range f.Docs {
			configs := map[string]*yaml.Node{}
			for _, name := range entries(orNone(value(doc, "configs")), configs) {
				if n := value(configs[name], "content"); n != nil && resolve(n).Value != "" && !interpolated(resolve(n).Value) {
					found[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// resources collects images, and what is worth a question.
func (w *publisher) resources() {
	for _, name := range slices.Sorted(maps.Keys(w.l.model.Services)) {
		s := w.l.model.Services[name]
		if s.Image != "" && !slices.Contains(w.out.Images, s.Image) {
			w.out.Images = append(w.out.Images, s.Image)
		}
		if s.Image != "" && s.Build != nil && !slices.Contains(w.out.Built, s.Image) {
			w.out.Built = append(w.out.Built, s.Image)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				w.out.Binds = append(w.out.Binds, fmt.Sprintf("%s: %s:%s", name, v.Source, v.Target))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.l.model.Configs)) {
		w.left("configs."+name+".file", w.l.model.Configs[name].File)
	}
	for _, name := range slices.Sorted(maps.Keys(w.l.model.Secrets)) {
		w.left("secrets."+name+".file", w.l.model.Secrets[name].File)
	}
}

// left tells of a file that does not go along.
func (w *publisher) left(key, path string) {
	if path != "" {
		w.l.warns = append(w.l.warns, project.Warning{Position: w.l.tree.index.Locate(key), Key: key,
			Text: "this file is not published: whoever uses the project needs one of their own"})
	}
}

// Pin adds an override file that has every image with its digest.
func (p *Publication) Pin(ctx context.Context, digests Digester) error {
	pinned, err := pin(p.model, func(image string) (string, error) { return digests(ctx, image) })
	if err != nil {
		return err
	}
	content, err := encode(locked(pinned), "yaml")
	p.Parts = append(p.Parts, artifact.ComposeFile("image-digests.yaml", p.version, content, false))
	return err
}

// add puts a file beside the main ones, under a name made of its content, so
// that the same project always makes the same artefact.
func (w *publisher) add(content []byte, suffix string, part func(name string) artifact.Part) string {
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:]) + suffix
	if !w.names[name] {
		w.names[name] = true
		w.beside = append(w.beside, part(name))
	}
	return name
}

// envFile adds an env_file; "" when there is none, which its service allows.
func (w *publisher) envFile(path string) (string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	w.suspect(path, content)
	return w.add(content, ".env", func(name string) artifact.Part {
		return artifact.EnvFile(name, w.options.Version, content)
	}), nil
}

func (w *publisher) suspect(path string, content []byte) {
	for _, f := range artifact.Sensitive(content) {
		w.out.Sensitive = append(w.out.Sensitive, fmt.Sprintf("%s in %s:%d", f.Kind, shown(w.l.at.wd, path), f.Line))
	}
}
