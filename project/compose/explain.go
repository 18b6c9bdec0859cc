package compose

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/davit-run/davit/project"
)

// explain gives the library's own errors their line. Most mistakes never come
// so far: the files have been checked before.
func (l *loaded) explain(err error) error {
	if errs := (project.Errors)(nil); errors.As(err, &errs) {
		return errs
	}
	if one := (*project.Error)(nil); errors.As(err, &one) {
		return project.Errors{one}
	}
	var out project.Errors
	for _, line := range strings.Split(err.Error(), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "decoding failed due to") {
			continue
		}
		if e := l.explainLine(line); e != nil {
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return err
	}
	return out
}

// quoted matches 'services[web].ports[0].target' at the head of a message.
var quoted = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^'([^']+)' (.*)$`)
})

// pathed matches a key path at the head of a message, or after "interpolating".
var pathed = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:error while interpolating )?((?:services|jobs|networks|volumes|secrets|configs|models|include)\.[^\s:]+):? (.*)$`)
})

func (l *loaded) explainLine(line string) *project.Error {
	if e := envMistake(l.at.wd, line); e != nil {
		return e
	}
	if m := quoted().FindStringSubmatch(line); m != nil {
		return l.wrong(dotted(m[1]), fixFor(m[1]), "%s", m[2])
	}
	if m := pathed().FindStringSubmatch(line); m != nil {
		return l.wrong(m[1], fixFor(m[1]), "%s", casting(m[2]))
	}
	return l.wrong("", "", "%s", strings.ReplaceAll(line, l.at.wd+"/", ""))
}

func (l *loaded) wrong(key, fix, format string, args ...any) *project.Error {
	if key == "" || l.tree == nil {
		e := &project.Error{What: fmt.Sprintf(format, args...), Fix: fix}
		if len(l.at.files) > 0 {
			e.File = shown(l.at.wd, l.at.files[0])
		}
		return e
	}
	return wrongAt(&l.tree.index, key, fix, format, args...)
}

// casting says in the file's terms that a value is of another type.
func casting(text string) string {
	cast, ok := strings.CutPrefix(text, "failed to cast to expected type: ")
	if !ok {
		return text
	}
	_, value, ok := strings.Cut(cast, "parsing ")
	if !ok {
		return cast
	}
	value, _, _ = strings.Cut(value, ": ")
	if strings.Contains(cast, "ParseFloat") {
		return value + " is not a number"
	}
	return value + " is not a whole number"
}

// dotted turns services[web].ports[0] into services.web.ports.0.
func dotted(path string) string {
	return strings.NewReplacer("[", ".", "]", "").Replace(path)
}

// fixFor says how a value of that key is written.
func fixFor(path string) string {
	last := path[strings.LastIndexAny(path, ".]")+1:]
	switch last {
	case "mem_limit", "mem_reservation", "memswap_limit", "memory", "shm_size", "size":
		return "write a number with b, k, m or g, such as 512m"
	case "stop_grace_period", "interval", "timeout", "start_period", "start_interval", "delay", "window", "monitor":
		return "write a number with us, ms, s, m or h, such as 1m30s"
	case "extra_hosts":
		return "write NAME=ADDRESS"
	case "command", "entrypoint":
		return "close every quote"
	}
	return ""
}

// envFiles sees to it that every file that a service reads its variables or
// labels from is there.
func (l *loaded) envFiles(p *types.Project) project.Errors {
	var out project.Errors
	missing := func(key, what, path string) {
		if _, err := os.Stat(path); err != nil {
			why := "not found"
			if !os.IsNotExist(err) {
				why = err.Error()
			}
			fix := "make that file, correct the path, or say required: false"
			if what == "label file" {
				fix = "make that file, or correct the path"
			}
			out = append(out, l.wrong(key, fix, "%s %s %s", what, path, why))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[name]
		for i, f := range s.EnvFiles {
			if bool(f.Required) && !l.o.NoEnvFiles {
				missing("services."+name+".env_file."+strconv.Itoa(i), "env file", f.Path)
			}
		}
		for i, f := range s.LabelFiles {
			missing("services."+name+".label_file."+strconv.Itoa(i), "label file", f)
		}
	}
	return out
}
