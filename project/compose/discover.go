package compose

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/davit-run/davit/project"
)

// The names that a compose file and its override may have, best first.
var (
	fileNames     = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}
	overrideNames = []string{"compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"}
)

// An origin is everything that is decided before a file is read.
type origin struct {
	wd       string
	files    []string // absolute, or "-"
	fetched  string   // where the first remote file of -f is
	dir      string   // the project's directory
	env      map[string]string
	envFiles []string
	profiles []string
	warnings []project.Warning
}

// find decides which files are read, what the project's directory is and what
// the environment holds, in docker compose's order: the caller's environment,
// .env of the working directory, COMPOSE_FILE or discovery, .env of the
// project's directory.
func find(o Options, remote *remotes) (*origin, error) {
	wd := o.WorkingDir
	if wd == "" {
		var err error
		if wd, err = os.Getwd(); err != nil {
			return nil, fmt.Errorf("working directory: %w", err)
		}
	}
	environ := o.Environ
	if environ == nil {
		environ = os.Environ()
	}
	at := &origin{wd: wd, env: environment(environ, wd)}
	named := o.EnvFiles
	if v := at.env["COMPOSE_ENV_FILES"]; len(named) == 0 && v != "" {
		named = strings.Split(v, ",")
	}
	if err := at.readDotEnv(named, projectDir(o, wd, o.Files), wd); err != nil {
		return nil, err
	}
	if err := at.chooseFiles(o, wd, remote); err != nil {
		return nil, err
	}
	if at.dir = at.fetched; at.dir == "" || o.ProjectDir != "" {
		at.dir = projectDir(o, wd, at.files)
	}
	if err := at.readDotEnv(named, at.dir, wd); err != nil {
		return nil, err
	}
	at.profiles = activeProfiles(o.Profiles, at.env)
	return at, nil
}

func (at *origin) readDotEnv(named []string, dir, wd string) error {
	read, err := dotEnv(at.env, named, dir, wd)
	if err != nil {
		return err
	}
	for _, f := range read {
		if len(at.envFiles) == 0 || at.envFiles[len(at.envFiles)-1] != f {
			at.envFiles = append(at.envFiles, f)
		}
	}
	if len(named) > 0 {
		at.envFiles = read
	}
	return nil
}

// chooseFiles takes -f, else COMPOSE_FILE, else looks upwards from the working
// directory.
func (at *origin) chooseFiles(o Options, wd string, remote *remotes) error {
	files := o.Files
	if v, set := at.env["COMPOSE_FILE"]; len(files) == 0 && set && v != "" {
		sep := at.env["COMPOSE_PATH_SEPARATOR"]
		if sep == "" {
			sep = string(os.PathListSeparator)
		}
		files = strings.Split(v, sep)
	}
	if len(files) == 0 {
		start := wd
		if o.ProjectDir != "" {
			start = absolute(wd, o.ProjectDir)
		}
		return at.lookUp(start)
	}
	for _, f := range files {
		switch {
		case remoteKind(f) != "":
			got, err := remote.get(f)
			if err != nil {
				return err
			}
			f = got.File
			if at.fetched == "" {
				at.fetched = filepath.Dir(f)
			}
		case f != "-":
			f = absolute(wd, f)
		}
		at.files = append(at.files, f)
	}
	return nil
}

func (at *origin) lookUp(start string) error {
	for dir := start; ; dir = filepath.Dir(dir) {
		if found := present(dir, fileNames); len(found) > 0 {
			at.take(found, "config")
			if over := present(dir, overrideNames); len(over) > 0 {
				at.take(over, "override")
			}
			return nil
		}
		if dir == filepath.Dir(dir) {
			return &project.Error{
				What: fmt.Sprintf("no configuration file provided: looked for %s in %s and its parents", strings.Join(fileNames, ", "), start),
				Fix:  "go to the project's directory, or name the file with -f",
			}
		}
	}
}

func (at *origin) take(found []string, kind string) {
	if len(found) > 1 {
		at.warnings = append(at.warnings, project.Warning{Text: fmt.Sprintf("Found multiple %s files with supported names: %s; using %s", kind, strings.Join(found, ", "), found[0])})
	}
	at.files = append(at.files, found[0])
}

func present(dir string, names []string) []string {
	var found []string
	for _, n := range names {
		f := filepath.Join(dir, n)
		if _, err := os.Stat(f); err == nil {
			found = append(found, f)
		}
	}
	return found
}

// projectDir is --project-directory, else where the first local file lies, else
// the working directory.
func projectDir(o Options, wd string, files []string) string {
	if o.ProjectDir != "" {
		return absolute(wd, o.ProjectDir)
	}
	for _, f := range files {
		if f != "-" && remoteKind(f) == "" {
			return filepath.Dir(absolute(wd, f))
		}
	}
	return wd
}

func activeProfiles(asked []string, env map[string]string) []string {
	if len(asked) > 0 {
		return asked
	}
	var out []string
	for _, p := range strings.Split(env["COMPOSE_PROFILES"], ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}
