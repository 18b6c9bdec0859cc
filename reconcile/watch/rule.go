package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"

	"github.com/davit-run/davit/project"
)

// What a changed file makes happen, as develop.watch.action has it.
const (
	Sync        = "sync"
	Rebuild     = "rebuild"
	Restart     = "restart"
	SyncRestart = "sync+restart"
	SyncExec    = "sync+exec"
)

// A Rule is one entry of a service's develop.watch.
type Rule struct {
	Service string
	Action  string
	Path    string // of the host, absolute: a directory or a file
	Target  string // of the container, absolute; empty where nothing is synced
	Ignore  []string
	Include []string // empty: everything
	Initial bool     // sync once when watching begins
	Exec    project.Hook

	// Context is the directory of the service's build, and Dockerignore what its
	// .dockerignore leaves out of it; empty where there is no build.
	Context      string
	Dockerignore []string
}

// ErrNone is the answer when nothing is to be watched.
var ErrNone = errors.New("none of the selected services is configured for watch, consider setting a 'develop' section")

// Rules are what the files say of the named services, of all when none is
// named.
func Rules(p *project.Project, services []string) ([]Rule, error) {
	var out []Rule
	for _, name := range p.ServiceNames() {
		s := p.Services[name]
		if s.Develop == nil || len(services) > 0 && !slices.Contains(services, name) {
			continue
		}
		for i, w := range s.Develop.Watch {
			r, err := ruleOf(s, w)
			if err != nil {
				return nil, p.Wrong(fmt.Sprintf("services.%s.develop.watch.%d", name, i), "", "%v", err)
			}
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, ErrNone
	}
	return out, nil
}

func ruleOf(s *project.Service, w project.Watch) (Rule, error) {
	r := Rule{
		Service: s.Name, Action: w.Action, Path: filepath.Clean(w.Path), Target: w.Target, Ignore: w.Ignore,
		Include: w.Include, Initial: w.InitialSync, Exec: w.Exec,
	}
	if w.Action == Rebuild && s.Build == nil {
		return r, errors.New("can't rebuild a service without a build section")
	}
	if s.Build == nil || strings.Contains(s.Build.Context, "://") {
		return r, nil
	}
	r.Context = s.Build.Context
	var err error
	r.Dockerignore, err = dockerignore(s.Build)
	return r, err
}

// dockerignore reads the file that says what is no part of a build's context:
// the Dockerfile's own, or the context's.
func dockerignore(b *project.Build) ([]string, error) {
	dockerfile := b.Dockerfile
	if dockerfile != "" && !filepath.IsAbs(dockerfile) {
		dockerfile = filepath.Join(b.Context, dockerfile)
	}
	for _, name := range []string{dockerfile + ".dockerignore", filepath.Join(b.Context, ".dockerignore")} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return ignorefile.ReadAll(f)
	}
	return nil, nil
}
