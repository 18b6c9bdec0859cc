package desired_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/compose"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/desired"
)

var hashed = regexp.MustCompile(`"[0-9a-f]{64}"`)

var update = flag.Bool("update", false, "rewrite the last section of the stories in testdata")

func load(t *testing.T, archive *txtar.Archive) (*project.Project, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "demo")
	for _, f := range archive.Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, _, err := compose.Load(context.Background(), compose.Options{WorkingDir: dir, Environ: []string{"TOKEN=from-outside"}})
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

// Each story is a project and what it asks of the host.
func TestFrom(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			p, dir := load(t, archive)
			d, err := desired.From(p, desired.Options{Version: "1.0"})
			got := told(t, d, err)
			// Hashes of paths differ from run to run.
			got = hashed.ReplaceAllString(strings.ReplaceAll(got, dir, "/DIR"), `"HASH"`)
			compare(t, path, archive, got)
		})
	}
}

func told(t *testing.T, d reconcile.Desired, err error) string {
	t.Helper()
	if err != nil {
		var one *project.Error
		if !errors.As(err, &one) || one.Line == 0 {
			t.Errorf("an error without a line: %v", err)
		}
		return err.Error() + "\n"
	}
	out, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

func compare(t *testing.T, path string, archive *txtar.Archive, got string) {
	t.Helper()
	last := len(archive.Files) - 1
	if archive.Files[last].Name != "want" {
		archive.Files = append(archive.Files, txtar.File{Name: "want"})
		last++
	}
	if *update {
		archive.Files[last].Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(archive.Files[last].Data); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func project1(t *testing.T, file string) *project.Project {
	t.Helper()
	p, _ := load(t, &txtar.Archive{Files: []txtar.File{{Name: "compose.yaml", Data: []byte(file)}}})
	return p
}

// What does not change a container does not change its definition or hash.
func TestHashStays(t *testing.T) {
	const base = "services:\n  web:\n    image: nginx\n    environment: {A: 1, B: 2}\n  db: {image: pg}\n"
	before, err := desired.From(project1(t, base), desired.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{
		"comments and key order": "# hello\nservices:\n  db: {image: pg}\n  web:\n    environment: {B: 2, A: 1}\n    image: nginx\n",
		"replicas":               strings.Replace(base, "image: nginx", "image: nginx\n    scale: 3", 1),
		"the build section":      strings.Replace(base, "image: nginx", "image: nginx\n    build: .", 1),
		"depends_on":             strings.Replace(base, "image: nginx", "image: nginx\n    depends_on: [db]", 1),
		"profiles of another":    strings.Replace(base, "image: pg", "image: pg, profiles: [x]", 1),
	} {
		after, err := desired.From(project1(t, file), desired.Options{})
		if err != nil {
			t.Fatal(err)
		}
		a, b := web(t, before), web(t, after)
		if a.Hash != b.Hash {
			t.Errorf("%s: the hash changes", name)
		}
		if changes := reconcile.Changed(a.Spec, b.Spec); len(changes) > 0 {
			t.Errorf("%s: changes %v", name, changes)
		}
	}
	changed, err := desired.From(project1(t, strings.Replace(base, "A: 1", "A: 2", 1)), desired.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := web(t, before), web(t, changed); a.Hash == b.Hash || len(reconcile.Changed(a.Spec, b.Spec)) == 0 {
		t.Error("a changed variable goes unseen")
	}
}

func web(t *testing.T, d reconcile.Desired) reconcile.Container {
	t.Helper()
	for _, c := range d.Containers {
		if c.Name == "demo-web-1" {
			return c
		}
	}
	t.Fatal("no demo-web-1")
	return reconcile.Container{}
}

// The content of a secret is handed over apart, and no definition has it.
func TestSecretsStayApart(t *testing.T) {
	p := project1(t, "services:\n  web: {image: x, secrets: [token]}\nsecrets:\n  token: {environment: TOKEN}\n")
	d, err := desired.From(p, desired.Options{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	c := web(t, d)
	if got := string(d.Contents[c.Spec.Files[0].Key]); got != "from-outside" {
		t.Errorf("content %q", got)
	}
	if text := told(t, d, nil); strings.Contains(text, "from-outside") {
		t.Error("the content is in what is written down")
	}
	other, err := desired.From(p, desired.Options{Key: []byte("other")})
	if err != nil {
		t.Fatal(err)
	}
	if web(t, other).Spec.Files[0].Digest == c.Spec.Files[0].Digest {
		t.Error("the digest does not depend on the key")
	}
}

// --scale counts instead of the file, and none means none.
func TestScale(t *testing.T) {
	p := project1(t, "services:\n  web: {image: x, scale: 2}\n  one: {image: x, container_name: only}\n")
	for n := range 4 {
		d, err := desired.From(p, desired.Options{Scale: map[string]int{"web": n}})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(d.Containers) - 1; got != n || (len(d.Empty) > 0) != (n == 0) {
			t.Errorf("asked for %d, got %d, empty %v", n, got, d.Empty)
		}
	}
	if _, err := desired.From(p, desired.Options{Scale: map[string]int{"one": 2}}); err == nil {
		t.Error("a fixed name was scaled")
	}
}
