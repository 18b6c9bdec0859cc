package tests

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryPackageHasASentence fails for a package that does not say what it
// is about, in words that begin as Go's package comments do.
func TestEveryPackageHasASentence(t *testing.T) {
	for path, p := range ourPackages(t) {
		first := "Package "
		if strings.HasPrefix(path, "cmd/davit") || strings.HasSuffix(p.Doc, "main") {
			first = ""
		}
		if p.Doc == "" || !strings.HasPrefix(p.Doc, first) && !strings.HasPrefix(p.Doc, "Command ") {
			t.Errorf("%s has no sentence: its doc is %q", path, p.Doc)
		}
	}
}

// roomLine is a line of the list of rooms in ARCHITECTURE.md: a name, indented
// by its depth, and what it is about.
var roomLine = regexp.MustCompile(`^    ( *)(\S+)/ +\S`)

// TestTheListOfRoomsIsTrue compares ARCHITECTURE.md with the packages that are
// there. Rooms of tests and examples, and those inside a room, need no line.
func TestTheListOfRoomsIsTrue(t *testing.T) {
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	var path [4]string
	_, list, _ := strings.Cut(string(text), "\n## Rooms\n")
	list, _, _ = strings.Cut(list, "\n## ")
	for line := range strings.Lines(list) {
		m := roomLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		depth := len(m[1]) / 2
		path[depth] = m[2]
		told = append(told, strings.Join(path[:depth+1], "/"))
	}
	if len(told) < 10 {
		t.Fatalf("ARCHITECTURE.md has no list of rooms: %q", told)
	}
	there := ourPackages(t)
	for path := range there {
		tree, _ := split(path)
		if tree != "tests" && tree != "examples" && !slices.Contains(told, path) && !insideRoom(path, told) {
			t.Errorf("%s is not in ARCHITECTURE.md's list of rooms", path)
		}
	}
	for _, path := range told {
		if _, ok := there[path]; !ok && !slices.Contains([]string{"cmd", "examples", "tests"}, path) {
			t.Errorf("ARCHITECTURE.md lists %s, which is no package", path)
		}
	}
}

// insideRoom says whether a package is a part of a listed room of a tree.
func insideRoom(path string, told []string) bool {
	parts := strings.Split(path, "/")
	return len(parts) > 2 && slices.Contains(told, strings.Join(parts[:2], "/"))
}
