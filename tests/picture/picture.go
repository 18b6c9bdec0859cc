package picture

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Of describes what is below dir, in order: one line for each path that counts
// (nil: for each), with its mode, its name from dir on, and where it points or
// what it holds. What owner says goes before it (nil: nothing does). A path that
// vanishes meanwhile is left out.
func Of(dir string, counts func(rel string) bool, owner func(fs.FileInfo) string) string {
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if err != nil || rel == "." || counts != nil && !counts(rel) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if owner != nil {
			b.WriteString(owner(info) + " ")
		}
		fmt.Fprintf(&b, "%s %s", info.Mode(), rel)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			b.WriteString(" -> " + to)
		case d.Type().IsRegular():
			content, _ := os.ReadFile(p)
			fmt.Fprintf(&b, " %q", content)
		}
		b.WriteString("\n")
		return nil
	})
	return b.String()
}

// Difference is the lines that only one of two descriptions has: + those that
// were found, - those that were wanted.
func Difference(got, want string) string {
	return only("+ ", got, want) + only("- ", want, got)
}

func only(sign, in, notIn string) string {
	var b strings.Builder
	for l := range strings.Lines(in) {
		if !strings.Contains("\n"+notIn, "\n"+l) {
			b.WriteString(sign + l)
		}
	}
	return b.String()
}
