package watch

import (
	"os"
	"path/filepath"
	"testing"
)

// A file that goes on being written while it is looked at for two services is
// news to both now, and to both again.
func TestServicesOnOnePathSeeTheSame(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var trees []*tree
	for _, service := range []string{"api", "web"} {
		tr, err := newTree(Rule{Service: service, Action: Rebuild, Path: dir}, func(string, uint64) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		tr.sweep()
		trees = append(trees, tr)
	}
	// look is one look, in which the path changes between the two.
	look := func(each func(*tree) []Change, between func()) {
		t.Helper()
		v := newView()
		for i, tr := range trees {
			tr.view = v
			found := each(tr)
			if len(found) != 1 || found[0].Path != "f" {
				t.Errorf("%s found %v", tr.root, found)
			}
			if i == 0 {
				between()
			}
		}
	}
	path := func(tr *tree) []Change { return tr.look([]string{"f"}) }
	write("f", "")
	look(path, func() { write("f", "half") })
	look(path, func() { write("f", "whole") })
	look((*tree).sweep, func() { write("g", "") })
}
