package render_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/project/compose"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/desired"
)

var updatePlans = flag.Bool("update-plans", false, "rewrite testdata/plans.txtar")

// Every project of the corpus of compose files is planned on an empty host, as
// `up --dry-run` does it, and prints the plan that testdata/plans.txtar has.
func TestPlansOfTheCorpus(t *testing.T) {
	stories, err := filepath.Glob("../../project/compose/testdata/good/*.txtar")
	if err != nil || len(stories) < 300 {
		t.Fatalf("%d compose projects, want at least 300: %v", len(stories), err)
	}
	const golden = "testdata/plans.txtar"
	want, err := txtar.ParseFile(golden)
	if err != nil && !*updatePlans {
		t.Fatal(err)
	}
	got := &txtar.Archive{Comment: []byte("What up --dry-run prints for every project of the corpus on an empty host.\n")}
	for _, path := range stories {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(planOf(t, path))})
	}
	if *updatePlans {
		if err := os.WriteFile(golden, txtar.Format(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	plans := map[string]string{}
	for _, f := range want.Files {
		plans[f.Name] = string(f.Data)
	}
	for _, f := range got.Files {
		if plan, ok := plans[f.Name]; !ok || plan != string(f.Data) {
			t.Errorf("%s: got\n%s\nwant\n%s", f.Name, f.Data, plan)
		}
	}
}

// refused is the one project that has everything in it that davit warns of, of
// which config prints more than up accepts.
const refused = "feature-warned.txtar"

// planOf is the plan of one project of the corpus.
func planOf(t *testing.T, path string) string {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	for _, f := range archive.Files {
		if f.Name == "want" {
			continue
		}
		file := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, _, err := compose.Load(context.Background(), storyOptions(string(archive.Comment), dir))
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return ""
	}
	wanted, err := desired.From(p, desired.Options{
		Version: "test", Key: []byte("key"),
		ReadFile: func(string) ([]byte, error) { return []byte("content"), nil },
	})
	if err != nil && filepath.Base(path) == refused {
		return "refused: " + strings.ReplaceAll(err.Error(), dir, "/DIR") + "\n"
	}
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return ""
	}
	var out bytes.Buffer
	if err := render.Plan(&out, reconcile.Plan(wanted, reconcile.Actual{}, reconcile.Options{})); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(dir, "/DIR", filepath.Dir(dir), "/UP").Replace(out.String())
}

// storyOptions reads the flags that a story of the corpus begins with.
func storyOptions(comment, dir string) compose.Options {
	o := compose.Options{WorkingDir: dir, Environ: []string{"HOME=/home/ann"}}
	for _, line := range strings.Split(comment, "\n") {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "file":
			o.Files = append(o.Files, value)
		case "profile":
			o.Profiles = append(o.Profiles, value)
		case "service":
			o.Services = append(o.Services, value)
		case "env":
			o.Environ = append(o.Environ, value)
		case "env-file":
			o.EnvFiles = append(o.EnvFiles, value)
		case "project-directory":
			o.ProjectDir = value
		case "name":
			o.ProjectName = value
		case "cd":
			o.WorkingDir = filepath.Join(dir, value)
		case "stdin":
			o.Stdin = strings.NewReader(strings.ReplaceAll(value, `\n`, "\n"))
		case "all-resources":
			o.AllResources = true
		}
	}
	return o
}
