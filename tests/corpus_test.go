package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/davit-run/davit/tests/kernel"
)

const corpus = "../project/compose/testdata/"

// An onDisk is one project of the corpus of compose files, on disk.
type onDisk struct {
	dir  string
	want string // its last section
	cmd  func(args ...string) *exec.Cmd
}

// writeStory puts a story of the corpus on disk and reads the flags that it begins
// with.
func writeStory(t *testing.T, path, bin, root string) onDisk {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := onDisk{dir: filepath.Join(top, "demo")}
	for _, f := range archive.Files {
		if f.Name == "want" {
			w.want = string(f.Data)
			continue
		}
		file := filepath.Join(w.dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.cmd = w.command(string(archive.Comment), filepath.Join(bin, "davit"), root)
	return w
}

// command makes davit's command lines out of a story's comment.
func (w onDisk) command(comment, davit, root string) func(args ...string) *exec.Cmd {
	env := []string{"HOME=/home/ann", "DAVIT_ROOT=" + root}
	var flags, services []string
	stdin, dir := "", w.dir
	for _, line := range strings.Split(comment, "\n") {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "file", "profile", "env-file", "project-directory":
			flags = append(flags, "--"+name, value)
		case "name":
			flags = append(flags, "--project-name", value)
		case "all-resources":
			flags = append(flags, "--all-resources")
		case "service":
			services = append(services, value)
		case "env":
			env = append(env, value)
		case "cd":
			dir = filepath.Join(w.dir, value)
		case "stdin":
			stdin = strings.ReplaceAll(value, `\n`, "\n")
		}
	}
	return func(args ...string) *exec.Cmd {
		all := append(append(append([]string{}, flags...), args...), services...)
		cmd := exec.Command(davit, all...)
		cmd.Dir, cmd.Env, cmd.Stdin = dir, env, strings.NewReader(stdin)
		return cmd
	}
}

// plain takes out of a text what differs from run to run.
func (w onDisk) plain(text string) string {
	return strings.NewReplacer(w.dir, "/DIR", filepath.Dir(w.dir), "/UP").Replace(text)
}

// some are one in ten of the stories of a kind; DAVIT_LONG=1 has all.
func some(t *testing.T, kind string, least int) []string {
	t.Helper()
	all, err := filepath.Glob(corpus + kind + "/*.txtar")
	if err != nil || len(all) < least {
		t.Fatalf("%d stories of %s, want at least %d: %v", len(all), kind, least, err)
	}
	if os.Getenv("DAVIT_LONG") != "" {
		return all
	}
	var out []string
	for i := 0; i < len(all); i += 10 {
		out = append(out, all[i])
	}
	return out
}

// TestCorpus has the executable print and plan projects of the corpus: config
// says what the library's test has for them, config of what config printed says
// the same again, and up --dry-run has a plan and leaves nothing.
func TestCorpus(t *testing.T) {
	kernel.NeedRoot(t)
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range some(t, "good", 300) {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			w := writeStory(t, path, bin, root)
			first := run(t, w.cmd("config"))
			if got := w.plain(first); got != withoutWarnings(w.want) {
				t.Errorf("config prints\n%s\nwant\n%s", got, withoutWarnings(w.want))
			}
			up(t, name, w)
			if left, _ := os.ReadDir(root); len(left) > 0 {
				t.Errorf("a dry run left %v", left)
			}
			if slices.Contains(oneWay, name) {
				return
			}
			again := exec.Command(filepath.Join(bin, "davit"), "-f", "-", "--all-resources", "--profile", "*", "config")
			again.Dir, again.Env, again.Stdin = w.dir, []string{"HOME=/home/ann", "DAVIT_ROOT=" + root}, strings.NewReader(first)
			if second := run(t, again); second != first {
				t.Errorf("config of what config printed is\n%s\nnot\n%s", second, first)
			}
		})
	}
}

// oneWay are projects of which docker compose's own config prints what it does
// not read: the name of a job, a dependency on what no profile wants, a key of
// build.ssh.
var oneWay = []string{"feature-warned", "feature-jobs", "feature-profiles-optional", "feature-build"}

// notUp are projects that up refuses, and why.
var notUp = map[string]string{
	"feature-warned":   "a network of another driver",
	"feature-external": "network n declared as external, but could not be found",
	"app-sentry":       "volume sentry-data declared as external, but could not be found",
	"feature-dotenv":   "invalid reference format",
}

// up holds that up --dry-run has a plan, or says why not.
func up(t *testing.T, name string, w onDisk) {
	cmd := w.cmd("--dry-run", "up", "-d")
	why, refused := notUp[name]
	if !refused {
		if plan := run(t, cmd); !strings.HasPrefix(plan, "1. ") && plan != "nothing to do\n" {
			t.Errorf("up --dry-run prints\n%s", plan)
		}
		return
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err == nil || !strings.Contains(errs.String(), why) {
		t.Errorf("up --dry-run: %v\n%s\nwithout %q", err, errs.Bytes(), why)
	}
}

// TestWrongCorpus has the executable refuse what the corpus has wrong, with the
// message that the library's test has for it, before anything is made.
func TestWrongCorpus(t *testing.T) {
	kernel.NeedRoot(t)
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range some(t, "wrong", 240) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			w := writeStory(t, path, bin, root)
			for _, args := range [][]string{{"config", "-q"}, {"up", "-d"}} {
				cmd := w.cmd(args...)
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 {
					t.Errorf("%q: %v, want exit status 1", args, err)
				}
				first, _, _ := strings.Cut(w.want, "\n")
				if got := w.plain(errs.String()); !strings.Contains(got, first) || strings.Contains(got, "goroutine") {
					t.Errorf("%q prints\n%s\nwithout\n%s", args, got, first)
				}
				if out.Len() > 0 {
					t.Errorf("%q prints %s", args, out.Bytes())
				}
			}
			if left, _ := filepath.Glob(filepath.Join(root, "*", "projects", "*")); len(left) > 0 {
				t.Errorf("a mistake left %q", left)
			}
		})
	}
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s", cmd.Args[1:], err, errs.Bytes())
	}
	return out.String()
}

// withoutWarnings is what of a story's last section goes to standard output.
func withoutWarnings(text string) string {
	for strings.HasPrefix(text, "# ") {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}
