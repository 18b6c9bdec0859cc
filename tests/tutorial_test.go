package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// An action is one thing that a reader of a tutorial does.
type action struct {
	line    int
	file    string // to write
	command string // to run
	text    string // the file's, or what the command answers
}

var (
	opening = regexp.MustCompile("^```([a-z]+)$")
	written = regexp.MustCompile("into `([^`]+)`:$")
)

// actions reads the blocks of a page: console blocks have commands and their
// answers, the others go into the file that the line before them names.
func actions(t *testing.T, page string) []action {
	t.Helper()
	b, err := os.ReadFile(page)
	check(t, err)
	var all []action
	lines := strings.Split(string(b), "\n")
	for i, last := 0, ""; i < len(lines); i++ {
		m := opening.FindStringSubmatch(lines[i])
		if m == nil {
			if lines[i] != "" {
				last = lines[i]
			}
			continue
		}
		begun := i + 1
		for i = begun; lines[i] != "```"; i++ {
		}
		block := lines[begun:i]
		if m[1] == "console" {
			all = append(all, commands(block, begun+1)...)
			continue
		}
		name := written.FindStringSubmatch(last)
		if name == nil {
			t.Fatalf("%s:%d: which file is that?", page, begun)
		}
		all = append(all, action{line: begun, file: name[1], text: strings.Join(block, "\n") + "\n"})
	}
	return all
}

func commands(block []string, line int) []action {
	var all []action
	for i, l := range block {
		if command, ok := strings.CutPrefix(l, "$ "); ok {
			all = append(all, action{line: line + i, command: command})
		} else {
			all[len(all)-1].text += l + "\n"
		}
	}
	return all
}

// answers is what the answer of a command looks like: … is anything.
func (a action) answers() *regexp.Regexp {
	var parts []string
	for _, p := range strings.Split(strings.TrimSpace(a.text), "…") {
		parts = append(parts, regexp.QuoteMeta(strings.TrimSpace(p)))
	}
	return regexp.MustCompile(`(?s)^\s*` + strings.Join(parts, ".*") + `\s*$`)
}

// prelude stands in for what a test cannot do: to install is to know how.
const prelude = `
sudo() { "$@"; }
make() { command make --no-print-directory -n -C "$MODULE" "$@" >/dev/null; }
command -v curl >/dev/null || curl() { busybox wget -q -T 5 -O - "http://$2"; }
`

// asks matches commands that only ask, and so may ask again.
var asks = regexp.MustCompile(`^(curl|sudo davit (ps|logs|watch --status)) ?`)

// Everything that the tutorial says is done, in its order, and answers as it
// says; what takes a moment to become true is asked again for a while.
func TestTutorial(t *testing.T) {
	h := newHost(t, "hello", "services: {}\n")
	check(t, load(t.Context(), h.root, "node"))
	module, err := filepath.Abs("..")
	check(t, err)
	dir := h.dir
	done := false
	t.Cleanup(func() {
		if !done { // somewhere on the way
			_, _ = h.shell(module, dir, "davit down --rmi local; cd ../hello && davit down --rmi local")
		}
	})
	var edit string
	for _, a := range actions(t, filepath.Join(module, "docs", "tutorial.md")) {
		if a.file != "" {
			check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, a.file)), 0o755))
			check(t, os.WriteFile(filepath.Join(dir, a.file), []byte(a.text), 0o644))
			continue
		}
		want := a.answers()
		for deadline, try := time.Now().Add(patience), 1; ; try++ {
			out, next := h.shell(module, dir, a.command)
			if want.MatchString(out) && next != "" {
				dir = next
				break
			}
			if !asks.MatchString(a.command) || time.Now().After(deadline) {
				t.Fatalf("docs/tutorial.md:%d: %s\nanswers\n%s\nwhich is not\n%s", a.line, a.command, out, a.text)
			}
			if try%100 == 0 && edit != "" { // node serves before it watches, and may have missed it
				h.shell(module, dir, edit)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if strings.HasPrefix(a.command, "sed -i ") {
			edit = a.command
		}
	}
	done = true
}

// shell runs a command as somebody would who has got as far as dir, and returns
// where they are then; empty: the command failed.
func (h *host) shell(module, dir, command string) (out, next string) {
	at := filepath.Join(h.dir, ".at")
	_ = os.Remove(at)
	cmd := exec.Command("timeout", "120", "sh", "-c", prelude+"[ ! -e .davit/isolated.env ] || . ./.davit/isolated.env\n"+
		"unset COMPOSE_PROJECT_NAME\n"+command+" && pwd >"+at)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DAVIT_ROOT="+h.root, "MODULE="+module, "PATH="+h.bin+":"+os.Getenv("PATH"))
	b, _ := cmd.CombinedOutput()
	where, _ := os.ReadFile(at)
	return string(b), strings.TrimSpace(string(where))
}
