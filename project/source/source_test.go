package source

import (
	"strings"
	"testing"

	"github.com/davit-run/davit/project"
)

func parse(t *testing.T, name, content string) *File {
	t.Helper()
	f, errs := Parse(name, []byte(content))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return f
}

// A value is found where it was written last, through overrides, includes,
// extends, anchors and lists that stand for mappings.
func TestLocate(t *testing.T) {
	base := parse(t, "base.yaml", `
services:
  root:
    image: x
    user: "5"
`)
	inc := parse(t, "inc.yaml", `
services:
  db:
    image: pg
volumes:
  data: {}
`)
	main := parse(t, "a.yaml", `
x-base: &base
  restart: always
services:
  web:
    <<: *base
    image: nginx
    ports:
      - "80:80"
      - "81:81"
    environment:
      - A=1
      - B=2
  own:
    extends: {file: base.yaml, service: root}
    tty: true
  chained: {extends: own}
  a.b: {image: x}
`)
	over := parse(t, "b.yaml", `
services:
  web:
    image: caddy
    ports: ["82:82"]
    command: !reset null
`)
	main.Includes = [][]*File{{inc}}
	main.Bases = map[string]*File{"base.yaml": base}
	x := Index{Files: []*File{main, over}}
	for key, want := range map[string]string{
		"services.web.image":         "b.yaml:4:5",
		"services.web.ports.0":       "a.yaml:9:9",
		"services.web.ports.1":       "a.yaml:10:9",
		"services.web.ports.2":       "b.yaml:5:13",
		"services.web.environment.B": "a.yaml:13:9",
		"services.web.restart":       "a.yaml:3:3",
		"services.db.image":          "inc.yaml:4:5",
		"volumes.data":               "inc.yaml:6:3",
		"services.own.user":          "base.yaml:5:5",
		"services.chained.user":      "base.yaml:5:5",
		"services.chained.tty":       "a.yaml:16:5",
		"services.a.b.image":         "a.yaml:18:9",
		"services.web.nothing.here":  "b.yaml:3:3",
		"services.none":              "b.yaml:2:1",
		"nothing":                    "a.yaml",
	} {
		if got := x.Locate(key).String(); got != want {
			t.Errorf("%s is at %s, want %s", key, got, want)
		}
	}
	if got := x.Quote(x.Locate("services.db.image")); got != "    image: pg" {
		t.Errorf("quoted %q", got)
	}
}

// A mistake shows its place, its line and a mark under it.
func TestErrorText(t *testing.T) {
	f := parse(t, "c.yaml", "services:\n  web: {image: x}\n")
	_, v := child(f.Docs[0], "services")
	got := f.Wrong(v.Content[0], []string{"services", "web"}, "do that", "this is %s", "wrong").Error()
	want := "c.yaml:2:3: services.web: this is wrong\n      2 |   web: {image: x}\n        |   ^\n  do that"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What moves a cursor or is too long for a screen is not shown.
func TestLinesAreSafe(t *testing.T) {
	f := &File{Name: "x", Content: []byte("a\n\x1b[2Jb\tc\x00\xff\n" + strings.Repeat("z", 500))}
	for n, want := range map[int]string{1: "a", 2: "[2Jb c?", 4: "", 0: "", -1: ""} {
		if got := f.Line(n); got != want {
			t.Errorf("line %d is %q, want %q", n, got, want)
		}
	}
	if got := []rune(f.Line(3)); len(got) != shown+1 {
		t.Errorf("a long line is shown with %d letters", len(got))
	}
}

func TestPositions(t *testing.T) {
	for want, p := range map[string]project.Position{
		"": {}, "f": {File: "f"}, "f:1": {File: "f", Line: 1}, "f:1:2": {File: "f", Line: 1, Column: 2},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
