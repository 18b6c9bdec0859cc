package compose

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// inEnvFile matches what the library says of a file with variables that it
// cannot read.
var inEnvFile = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^failed to read (.+?): (?:line (\d+): )?(.+)$`)
})

// envError gives a mistake in a .env file or an env_file its place there;
// anything else comes back as it is.
func envError(wd string, err error) error {
	if e := envMistake(wd, err.Error()); e != nil {
		return e
	}
	return err
}

func envMistake(wd, text string) *project.Error {
	m := inEnvFile().FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	path := absolute(wd, m[1])
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	line, _ := strconv.Atoi(m[2]) // 0 when the library knows none
	what, fix := m[3], envFix(m[3])
	f := &source.File{Name: shown(wd, path), Content: content}
	if _, opened, found := strings.Cut(what, "unterminated quoted value "); found {
		for line > 0 && !strings.Contains(f.Line(line), opened) {
			line-- // it is told where the file ends, not where the quote is opened
		}
	}
	if filepath.Base(path) == ".env" && strings.HasPrefix(what, "required variable") {
		fix = "set it in the environment, or above that line"
	}
	// The line itself is not shown: what is in these files is often secret.
	return &project.Error{File: f.Name, Line: line, What: what, Fix: fix}
}

func envFix(what string) string {
	switch {
	case strings.Contains(what, "unterminated"):
		return "close the quote"
	case strings.HasPrefix(what, "required variable"):
		return "set it in the environment or in .env"
	}
	return "write NAME=VALUE, one a line"
}
