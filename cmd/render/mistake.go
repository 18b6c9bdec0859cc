package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/davit-run/davit/project"
)

// Mistake prints an error for the person who typed the command: every mistake
// of a compose file on a line of its own, files named from the working
// directory.
func Mistake(out io.Writer, err error) {
	for _, one := range flatten(err) {
		fmt.Fprintf(out, "davit: %s\n", one)
	}
}

// MistakeJSON prints an error as one JSON object a line, for --progress json.
func MistakeJSON(out io.Writer, err error) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for _, one := range flatten(err) {
		_ = e.Encode(struct {
			Error   bool   `json:"error"`
			Message string `json:"message"`
		}{true, one})
	}
}

// Warning prints what the user should know, on one line.
func Warning(out io.Writer, w project.Warning) {
	w.File = fromHere(w.File)
	fmt.Fprintf(out, "davit: warning: %s\n", w)
}

// flatten takes joined errors apart.
func flatten(err error) []string {
	var mistake *project.Error
	var many interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &many) && many.(error).Error() == err.Error():
		var out []string
		for _, e := range many.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	case errors.As(err, &mistake) && mistake.Error() == err.Error():
		m := *mistake
		m.File = fromHere(m.File)
		return []string{m.Error()}
	}
	return []string{strings.TrimRight(err.Error(), "\n")}
}

// fromHere shortens a path to what it is from the working directory, when that
// is below it.
func fromHere(path string) string {
	wd, err := os.Getwd()
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, ".."+string(filepath.Separator)+"..") {
		return path
	}
	return rel
}
