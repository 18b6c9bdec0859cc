package compose

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/sirupsen/logrus"

	"github.com/davit-run/davit/project"
)

var update = flag.Bool("update", false, "rewrite the last section of the stories in testdata")

// A story is one txtar file: a sentence, options, the project's files, and
// what must come of them in the last section.
type story struct {
	path    string
	archive *txtar.Archive
	options Options
	dir     string
}

func stories(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no stories in %s: %v", pattern, err)
	}
	return found
}

func read(t *testing.T, path string) *story {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &story{path: path, archive: archive}
	files := map[string]string{}
	for _, f := range archive.Files {
		if f.Name != "want" {
			files[filepath.Join("demo", f.Name)] = string(f.Data)
		}
	}
	s.dir = filepath.Join(write(t, files), "demo")
	s.options = Options{WorkingDir: s.dir, Environ: []string{"HOME=/home/ann"}}
	for _, line := range strings.Split(string(archive.Comment), "\n") {
		s.option(strings.TrimSpace(line))
	}
	return s
}

func (s *story) option(line string) {
	name, value, ok := strings.Cut(line, ": ")
	if !ok {
		return
	}
	switch name {
	case "file":
		s.options.Files = append(s.options.Files, value)
	case "profile":
		s.options.Profiles = append(s.options.Profiles, value)
	case "service":
		s.options.Services = append(s.options.Services, value)
	case "env":
		s.options.Environ = append(s.options.Environ, value)
	case "env-file":
		s.options.EnvFiles = append(s.options.EnvFiles, value)
	case "project-directory":
		s.options.ProjectDir = value
	case "name":
		s.options.ProjectName = value
	case "cd":
		s.options.WorkingDir = filepath.Join(s.dir, value)
	case "stdin":
		s.options.Stdin = strings.NewReader(strings.ReplaceAll(value, `\n`, "\n"))
	case "all-resources":
		s.options.AllResources = true
	}
}

// plain takes out of a text what differs from run to run.
func (s *story) plain(text string) string {
	text = strings.ReplaceAll(text, s.dir, "/DIR")
	return strings.ReplaceAll(text, filepath.Dir(s.dir), "/UP")
}

func (s *story) compare(t *testing.T, got string) {
	t.Helper()
	last := len(s.archive.Files) - 1
	if last < 0 || s.archive.Files[last].Name != "want" {
		s.archive.Files = append(s.archive.Files, txtar.File{Name: "want"})
		last++
	}
	if *update {
		s.archive.Files[last].Data = []byte(got)
		if err := os.WriteFile(s.path, txtar.Format(s.archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(s.archive.Files[last].Data); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Every project of the corpus comes out as its story says, and exactly as the
// library with all its own checks switched on has it.
func TestGood(t *testing.T) {
	for _, path := range stories(t, "testdata/good/*.txtar") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s := read(t, path)
			out, warnings, err := Render(context.Background(), s.options, RenderOptions{Format: "yaml"})
			if err != nil {
				t.Fatal(err)
			}
			if want := s.reference(t); string(out) != want {
				t.Errorf("the library itself says\n%s\nnot\n%s", want, out)
			}
			var b strings.Builder
			for _, w := range warnings {
				fmt.Fprintf(&b, "# %s\n", w)
			}
			s.compare(t, s.plain(b.String()+string(out)))
		})
	}
}

// reference is what the library says of a story with its own validation, its
// own consistency check and its own project name.
func (s *story) reference(t *testing.T) string {
	t.Helper()
	o := s.options
	if o.Stdin != nil {
		t.Skip("standard input can be read once")
	}
	l := &loaded{o: o}
	if err := l.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	env := maps.Clone(l.at.env)
	delete(env, "COMPOSE_PROJECT_NAME")
	logLock.Lock()
	t.Setenv("HOME", env["HOME"])
	logrus.SetOutput(io.Discard)
	defer func() { logrus.SetOutput(os.Stderr); logLock.Unlock() }()
	p, err := loader.LoadWithContext(context.Background(),
		types.ConfigDetails{WorkingDir: l.at.dir, ConfigFiles: l.files, Environment: env},
		func(opts *loader.Options) {
			opts.SetProjectName(l.tree.project, true)
			opts.Profiles = l.at.profiles
			opts.SkipResolveEnvironment = true
		})
	if err != nil {
		t.Fatalf("the library itself: %v", err)
	}
	if p, err = l.choose(p); err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithServicesEnvironmentResolved(true); err != nil {
		t.Fatal(err)
	}
	if p, err = p.WithServicesLabelsResolved(false); err != nil {
		t.Fatal(err)
	}
	out, err := p.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "$", "$$")
}

// Every mistake of the corpus is told of in the words of its story: where,
// what, and what to do.
func TestWrong(t *testing.T) {
	for _, path := range stories(t, "testdata/wrong/*.txtar") {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			s := read(t, path)
			_, _, err := Load(context.Background(), s.options)
			if err == nil {
				t.Fatal("loaded without a word")
			}
			var one *project.Error
			if !errors.As(err, &one) {
				t.Errorf("an error without a place: %v", err)
			}
			s.compare(t, s.plain(err.Error())+"\n")
		})
	}
}
