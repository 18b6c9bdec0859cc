package compose

import (
	"fmt"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/loader"

	"github.com/davit-run/davit/project"
)

// name decides what the project is called: what it calls itself, unless the
// caller makes another name of it. Files may use it as ${COMPOSE_PROJECT_NAME}.
func (t *tree) name(dir string) *project.Error {
	name, err := t.ownName(dir)
	if err != nil {
		return err
	}
	if name != "" && t.o.Rename != nil {
		name = t.o.Rename(Naming{Name: name, Dir: dir, Given: t.o.ProjectName != "", Isolate: t.isolates()})
	}
	return t.named(name)
}

// ownName is the project's name as -p, COMPOSE_PROJECT_NAME, the files (the last
// one's) or the directory give it.
func (t *tree) ownName(dir string) (string, *project.Error) {
	for _, given := range []string{t.o.ProjectName, t.env["COMPOSE_PROJECT_NAME"]} {
		if given == "" {
			continue
		}
		if normal := loader.NormalizeProjectName(given); normal != given {
			return "", &project.Error{
				What: fmt.Sprintf("invalid project name %q: must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number", shorten(given)),
				Fix:  suggestName(normal),
			}
		}
		return given, nil
	}
	written := ""
	for _, f := range t.index.Files {
		for _, doc := range f.Docs {
			if n := value(doc, "name"); n != nil && n.Value != "" {
				written = t.text(f, n)
			}
		}
	}
	if name := loader.NormalizeProjectName(written); name != "" {
		return name, nil
	}
	return loader.NormalizeProjectName(filepath.Base(dir)), nil
}

// isolates says whether the files ask for x-isolate; the last one counts.
func (t *tree) isolates() bool {
	asked := false
	for _, f := range t.index.Files {
		for _, doc := range f.Docs {
			if n := value(doc, "x-isolate"); n != nil {
				asked = resolve(n).Value == "true"
			}
		}
	}
	return asked
}

func (t *tree) named(name string) *project.Error {
	if name == "" {
		return &project.Error{What: "project name must not be empty", Fix: "give one with -p NAME, or with name: in the file"}
	}
	t.project = name
	t.env["COMPOSE_PROJECT_NAME"] = name
	return nil
}

func suggestName(normal string) string {
	if normal == "" {
		return ""
	}
	return "use " + normal
}
