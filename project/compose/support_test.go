package compose

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"

	"github.com/davit-run/davit/project"
)

// treatment is the row that decides about an attribute: the longest one.
func treatment(path string) (row, bool) {
	parts := strings.Split(path, ".")
	best, found := row{}, false
	for _, r := range rows {
		if covers(r.Path, parts) && len(r.Path) > len(best.Path) {
			best, found = r, true
		}
	}
	return best, found
}

func covers(pattern string, parts []string) bool {
	p := strings.Split(pattern, ".")
	if len(p) > len(parts) {
		return false
	}
	for i := range p {
		if p[i] != "*" && p[i] != parts[i] {
			return false
		}
	}
	return true
}

// Every attribute of the specification is acted on, warned about, refused, or
// said to need nothing: none is forgotten when the library's schema grows.
func TestEveryAttributeHasATreatment(t *testing.T) {
	paths := schema.AttributePaths()
	if len(paths) < 700 {
		t.Fatalf("only %d attributes", len(paths))
	}
	for _, p := range paths {
		parts := strings.Split(string(p), ".")
		if len(parts) > 2 && parts[0] == "services" {
			r, found := treatment(string(p))
			if !slices.Contains(serviceKeys, parts[2]) && (!found || r.Path == "services") {
				t.Errorf("%s: neither acted on nor warned about", p)
			}
			if of, isHook := strings.CutPrefix(string(p), "services.*.pre_start.[]."); isHook {
				if like, _ := treatment("services.*." + of); like.Treat != r.Treat {
					t.Errorf("%s: treated otherwise than a service's", p)
				}
			}
			continue
		}
		if _, found := treatment(string(p)); !found {
			t.Errorf("%s: no row", p)
		}
	}
}

// Every row that says "warned" does warn, with its line.
func TestEveryWarningIsGiven(t *testing.T) {
	s := read(t, "testdata/good/feature-warned.txtar")
	_, warnings, err := Load(context.Background(), s.options)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Treat != warned {
			continue
		}
		given := slices.ContainsFunc(warnings, func(w project.Warning) bool {
			return w.Line > 0 && strings.HasSuffix(w.Text, r.Note) && (w.Key == "" || covers(r.Path, strings.Split(listed(w.Key), ".")))
		})
		if !given && r.Path != "services.*.build.isolation" {
			t.Errorf("nothing is said of %s", r.Path)
		}
	}
}

// listed puts [] for the numbers of a key path.
func listed(key string) string {
	parts := strings.Split(key, ".")
	for i, p := range parts {
		if _, err := strconv.Atoi(p); err == nil {
			parts[i] = "[]"
		}
	}
	return strings.Join(parts, ".")
}

// The page about what davit acts on is made from the same table.
func TestSupportPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "compose-support.md")
	want := supportPage()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says: run go test ./project/compose -run SupportPage -update", path)
	}
}

func supportPage() string {
	var b strings.Builder
	b.WriteString("# What davit does with each attribute of the compose specification\n\n")
	b.WriteString("Made from the table in project/compose/support.go. An attribute belongs to the longest row that it starts with; `*` is any key, `[]` any item.\n")
	for _, part := range []struct {
		treat int
		title string
	}{
		{warned, "Accepted, and warned about by key and line"},
		{refused, "Refused with an error"},
		{ignored, "Accepted: there is nothing to do"},
	} {
		b.WriteString("\n## " + part.title + "\n\n| attribute | why |\n|---|---|\n")
		for _, r := range rows {
			if r.Treat == part.treat {
				b.WriteString("| `" + r.Path + "` | " + r.Note + only(r.Only) + " |\n")
			}
		}
	}
	b.WriteString("\n## Acted on\n\nEverything else: include, networks, volumes, secrets and configs, and of services.*\n\n")
	for _, k := range serviceKeys {
		b.WriteString("- `" + k + "`\n")
	}
	b.WriteString("\n## davit's own\n\n")
	for _, x := range known {
		b.WriteString("- `services.*." + x.key + "`: " + strings.Join(x.values, ", ") + "\n")
	}
	return b.String()
}

func only(values []string) string {
	var out []string
	for _, v := range values {
		if v = strings.TrimPrefix(v, "!"); v != "" {
			out = append(out, "`"+v+"`")
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (not for " + strings.Join(out, ", ") + ")"
}
