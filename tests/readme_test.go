package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A shownCommand is a line of a page's indented blocks.
type shownCommand struct {
	line  int
	text  string
	first bool // of its block: the reader is in the clone again
}

var remark = regexp.MustCompile(`\s+# .*$`)

// indented reads the commands of a page's indented blocks.
func indented(t *testing.T, page string) []shownCommand {
	t.Helper()
	b, err := os.ReadFile(page)
	check(t, err)
	var all []shownCommand
	within := false
	for i, l := range strings.Split(string(b), "\n") {
		text, is := strings.CutPrefix(l, "    ")
		if is {
			all = append(all, shownCommand{i + 1, remark.ReplaceAllString(text, ""), !within})
		}
		within = is
	}
	return all
}

// readers stands in for a reader of README: what make would do is shown, but for
// install, whose executables are those that run from then on; who follows logs
// has seen enough when there is a line.
const readers = `
INSTALLED=$(dirname "$CLONE")/installed
PATH=$INSTALLED/usr/local/bin:$PATH
make() {
	case $1 in
	install) command make --no-print-directory -C "$MODULE" -o build DESTDIR="$INSTALLED" install ;;
	*) command make --no-print-directory -n -C "$MODULE" "$@" >/dev/null ;;
	esac
}
sudo() {
	case "$*" in
	"davit logs -f") "$@" | head -n 1 ;;
	*) env "$@" ;;
	esac
}
`

// What README shows is done, in its order, from a clone with a project of the
// reader's own and an image beside it. The commands about a database are those of
// the story example-database; with DAVIT_LONG they are run here as well.
func TestReadme(t *testing.T) {
	h := newHost(t, "your-project", "services: {}\n")
	module, err := filepath.Abs("..")
	check(t, err)
	clone := filepath.Join(h.dir, "clone")
	check(t, os.CopyFS(filepath.Join(clone, "examples"), os.DirFS(filepath.Join(module, "examples"))))
	own := filepath.Join(clone, "your-project")
	check(t, os.Mkdir(own, 0o755))
	compose := "services:\n  web:\n    image: busybox\n    command: sh -c 'while :; do echo hello; sleep 0.1; done'\n    stop_signal: SIGKILL\n"
	check(t, os.WriteFile(filepath.Join(own, "compose.yaml"), []byte(compose), 0o644))
	h.davit("image", "save", "-o", filepath.Join(clone, "app.tar"), "busybox")
	long := os.Getenv("DAVIT_LONG") != ""
	if long {
		check(t, load(t.Context(), h.root, "postgres"))
	}
	t.Cleanup(func() {
		_, _ = h.shell(module, own, "davit down -t 0")
		_, _ = h.shell(module, filepath.Join(clone, "examples/database"), "davit down -v; DATA=second davit down -v --rmi local; rm -f notes.sql")
	})
	answers := map[string]string{
		"sudo davit load -i app.tar": "Loaded image busybox:", "sudo davit ps": "your-project-web-1",
		"sudo davit logs -f": "web-1 +. hello", "sudo davit down": "Removed",
	}
	dir, ran := clone, 0
	for _, c := range indented(t, filepath.Join(module, "README.md")) {
		if c.first {
			dir = clone
		}
		if !long && (c.text == "cd examples/database" || strings.HasSuffix(dir, "database")) {
			dir = filepath.Join(clone, "examples/database")
			continue
		}
		out, next := h.shell(module, dir, "CLONE="+clone+"\n"+readers+c.text)
		want := answers[c.text]
		if next == "" || !regexp.MustCompile(want).MatchString(out) {
			t.Fatalf("README.md:%d: %s\nanswers\n%s\nwhich has no %q, or it failed", c.line, c.text, out, want)
		}
		delete(answers, c.text)
		dir = next
		ran++
	}
	if len(answers) > 0 || ran < 9 {
		t.Errorf("%d commands were run, and not %v", ran, answers)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "installed/usr/local/bin/davit-runtime")); err != nil {
		t.Error(err)
	}
}
