package git_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine/git"
)

func TestOnlyFourTransportsAndNoOptions(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://host/x.git": true, "http://host/x.git": true, "ssh://git@host/x": true, "git://host/x": true, "git@host:x.git": true,
		"ext::sh -c id": false, "file:///etc": false, "/srv/x.git": false, "-oProxyCommand=id": false, "a@b::c:d": false,
		"ftp://host/x": false,
	} {
		if err := git.Check(url, ""); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := git.Check("https://host/x.git", "--upload-pack=id"); err == nil {
		t.Error("a reference that is an option was taken")
	}
}

// serve makes a repository with what script writes into it and serves it by
// the protocol that needs no git on the other side.
func serve(t *testing.T, script string) git.Repository {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", `mkdir work; cd work; git init -q -b main .
git config user.email a@b; git config user.name a
`+script+`
git add -A; git commit -q -m one; git tag v1
cd ..; git clone -q --bare work repo.git; cd repo.git; git update-server-info`)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return git.Repository{URL: s.URL + "/repo.git"}
}

func TestCheckout(t *testing.T) {
	r := serve(t, "mkdir app; echo hello >app/file")
	t.Setenv("GIT_DIR", "/nowhere") // as in a hook
	r.Limits = git.Limits{Pack: 1 << 20, Files: 3, Content: 1 << 10}
	for _, ref := range []string{"", "main", "v1"} {
		commit, err := r.Resolve(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := r.Checkout(t.Context(), dir, ref, commit); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "app/file")); err != nil || string(b) != "hello\n" {
			t.Errorf("%q: %q, %v", ref, b, err)
		}
	}
	if _, err := r.Resolve(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), `no branch, tag or commit "none"`) {
		t.Error(err)
	}
}

// TestLimits has a repository of 8,000 files in a few hundred bytes of trees.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		script string
		limits git.Limits
		says   string
	}{
		{`echo x >f
blob=$(git hash-object -w f)
tree() { i=0; while [ $i -lt 20 ]; do printf '%s %s %s\t%s\n' $1 $2 $3 n$i; i=$((i+1)); done | git mktree; }
a=$(tree 100644 blob $blob); b=$(tree 040000 tree $a); c=$(tree 040000 tree $b)
git read-tree --prefix=bomb $c; git checkout -q -- bomb/n0/n0; git() { case $1 in add) command git update-index --add f;; *) command git "$@";; esac; }`,
			git.Limits{Files: 1000}, "more than 1000 files"},
		{"head -c 3000000 /dev/zero >big", git.Limits{Content: 2 << 20}, "more than 2 MiB"},
		{"head -c 3000000 /dev/urandom >big", git.Limits{Pack: 1 << 20}, "git fetch"},
	} {
		r := serve(t, c.script)
		r.Limits = c.limits
		commit, err := r.Resolve(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := r.Checkout(t.Context(), dir, "main", commit); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.says, err)
		}
		if found, _ := filepath.Glob(filepath.Join(dir, "[a-z]*")); len(found) > 0 {
			t.Errorf("%q: files were written: %q", c.says, found)
		}
	}
}
