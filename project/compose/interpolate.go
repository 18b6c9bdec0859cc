package compose

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// expand tries every ${…} of a file, so that each that cannot be replaced is
// told of with its line, and each variable that is not set once.
func (t *tree) expand(f *source.File) project.Errors {
	if t.o.NoInterpolate || !strings.Contains(string(f.Content), "$") {
		return nil
	}
	e := &expander{tree: t, file: f, seen: map[*yaml.Node]bool{}}
	for _, doc := range f.Docs {
		e.walk(doc)
	}
	return e.errs
}

type expander struct {
	tree *tree
	file *source.File
	path []string
	seen map[*yaml.Node]bool
	errs project.Errors
}

func (e *expander) walk(n *yaml.Node) {
	switch n.Kind {
	case yaml.ScalarNode:
		if strings.Contains(n.Value, "$") {
			e.value(n)
		}
	case yaml.SequenceNode:
		for _, c := range n.Content {
			e.walk(c)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			e.path = append(e.path, n.Content[i].Value)
			e.walk(n.Content[i+1])
			e.path = e.path[:len(e.path)-1]
		}
	}
}

func (e *expander) value(n *yaml.Node) {
	_, err := template.SubstituteWithOptions(n.Value, lookup(e.file.Env), template.WithoutLogging)
	var missing *template.MissingRequiredError
	var invalid *template.InvalidTemplateError
	switch {
	case errors.As(err, &missing):
		e.wrong(n, "set it in the environment or in .env", "%s", strings.TrimSuffix(missing.Error(), ": "))
	case errors.As(err, &invalid):
		e.wrong(n, "write $$ for a $ that is meant as itself, ${NAME} for a variable", "invalid interpolation format: %q", shorten(invalid.Template))
	case err != nil:
		e.wrong(n, "", "%v", err)
	default:
		e.unset(n)
	}
}

func (e *expander) wrong(n *yaml.Node, fix, format string, args ...any) {
	if len(e.errs) < 50 {
		e.errs = append(e.errs, e.file.Wrong(n, e.path, fix, format, args...))
	}
}

func shorten(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:77]) + "…"
	}
	return s
}

// bare finds $NAME and ${NAME}: the forms that need a value. An escaped $$ is
// matched first, so that it hides what follows it.
var bare = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\$\$|\$([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
})

// unset warns, once each, of variables that are not set and have no default.
func (e *expander) unset(n *yaml.Node) {
	for _, m := range bare().FindAllStringSubmatch(n.Value, -1) {
		name := m[1] + m[2]
		if name == "" || e.tree.warned[name] {
			continue
		}
		if _, set := e.file.Env[name]; set || name == "COMPOSE_PROJECT_NAME" {
			continue
		}
		e.tree.warned[name] = true
		text := fmt.Sprintf("The %q variable is not set. Defaulting to a blank string.", name)
		if e.file.Env["SUDO_UID"] != "" && os.Geteuid() == 0 {
			text += fmt.Sprintf(" sudo drops variables: sudo --preserve-env=%s keeps this one.", name)
		}
		e.tree.warns = append(e.tree.warns, project.Warning{
			Position: project.Position{File: e.file.Name, Line: n.Line, Column: n.Column},
			Key:      strings.Join(e.path, "."), Text: text,
		})
	}
}
