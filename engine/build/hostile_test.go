package build_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/davit-run/davit/engine/build"
)

// A stub that a command turned into a link is not followed when it is removed
// (CVE-2024-23652).
func TestStubsAreNotFollowed(t *testing.T) {
	h := newCorpus(t)
	canary := t.TempDir()
	res, _, err := h.build(t, build.Request{Context: t.TempDir(), Inline: `FROM busybox
RUN --mount=type=tmpfs,target=/m/t mv /m /old && mkdir /m && ln -s ` + canary + ` /m/t
`})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(canary); err != nil || !st.IsDir() {
		t.Errorf("the host's directory: %v", err)
	}
	if why := fact(h.merged(t, res.Layers), "link", []string{"/m/t", canary}); why != "" {
		t.Error(why)
	}
}

// What a step leaves in a cache mount never leads another one out of it
// (CVE-2024-23651).
func TestCacheMountsAreLeftByNoLink(t *testing.T) {
	h := newCorpus(t)
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, said, err := h.build(t, build.Request{Context: t.TempDir(), Inline: `FROM busybox
RUN --mount=type=cache,target=/c,id=escape ln -s ` + filepath.Dir(canary) + ` /c/out
RUN --mount=type=cache,target=/c,id=escape,source=out echo changed > /c/canary; cat /c/canary 2>&1 || true
`})
	if b, _ := os.ReadFile(canary); string(b) != "untouched" {
		t.Errorf("the host's file is %q: %v, %s", b, err, said.logs.String())
	}
}

// The value of a secret is in nothing that is kept: no layer, record, log.
func TestSecretsAreKeptNowhere(t *testing.T) {
	h := newCorpus(t)
	canary := "canary-7f3a91"
	file := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	res, said, err := h.build(t, build.Request{Context: t.TempDir(), Inline: `FROM busybox
RUN --mount=type=secret,id=a --mount=type=secret,id=b,env=TOKEN test -s /run/secrets/a && test -n "$TOKEN" && touch /done
`, Secrets: map[string]build.SecretSource{"a": {File: file}, "b": {Value: []byte(canary)}}})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(res.Config, []byte(canary)) || strings.Contains(said.logs.String(), canary) {
		t.Error("the secret is in the configuration or the log")
	}
	for _, dir := range []string{h.layout.Data, h.layout.Run} {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, []byte(canary)) {
				t.Errorf("the secret is in %s", p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// An instruction that changes the configuration alone makes another image,
// with the layers that were there (CVE-2024-24557).
func TestConfigurationIsNotCached(t *testing.T) {
	h := newCorpus(t)
	dir := t.TempDir()
	var layers, configs []string
	for _, last := range []string{"", "HEALTHCHECK CMD true", "ONBUILD RUN true", "USER ann"} {
		res, _, err := h.build(t, build.Request{Context: dir, Inline: "FROM busybox\nRUN touch /x\n" + last + "\n"})
		if err != nil {
			t.Fatal(err)
		}
		layers, configs = append(layers, fmt.Sprint(res.Layers)), append(configs, string(res.Config))
	}
	for i := 1; i < len(layers); i++ {
		if layers[i] != layers[0] || configs[i] == configs[i-1] {
			t.Errorf("%s after %s: %s", layers[i], layers[0], configs[i])
		}
	}
}

// The same instructions on another base are other steps.
func TestTheBaseIsPartOfTheKey(t *testing.T) {
	h := newCorpus(t)
	h.images.images["docker.io/library/other:latest"] = h.images.images["docker.io/library/busybox:latest"]
	two := h.base2(t)
	other := h.images.images["docker.io/library/busybox:latest"]
	other.image.Layers = append([]string{two}, other.image.Layers...)
	other.image.ID = "sha256:" + strings.Repeat("ab", 32)
	h.images.images["docker.io/library/other:latest"] = other
	var layers []string
	for _, from := range []string{"busybox", "other"} {
		res, _, err := h.build(t, build.Request{Context: t.TempDir(), Inline: "FROM " + from + "\nRUN ls / > /list\n"})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, res.Layers[len(res.Layers)-1])
	}
	if layers[0] == layers[1] {
		t.Error("a step on one base was taken for one on another")
	}
}

func (h *corpus) base2(t *testing.T) string {
	t.Helper()
	d, err := h.layers.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	if err := os.WriteFile(filepath.Join(d.FS, "extra"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := d.Commit(strings.Repeat("ef", 32))
	if err != nil {
		t.Fatal(err)
	}
	return m.ID
}

func TestAddOverHTTP(t *testing.T) {
	h := newCorpus(t)
	var asked, sent atomic.Int32
	body := "downloaded"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/named":
			w.Header().Set("Content-Disposition", `attachment; filename="../../evil.txt"`)
		case "/gone":
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent.Add(1)
		fmt.Fprint(w, body)
	}))
	defer srv.Close()
	sum := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(body)))
	build1 := func(df string) (*build.Result, error) {
		res, _, err := h.build(t, build.Request{Context: t.TempDir(), Inline: strings.ReplaceAll(df, "URL", srv.URL)})
		return res, err
	}
	for df, want := range map[string][]string{
		"FROM scratch\nADD URL/f.txt /d/\n":                         {"file", "/d/f.txt", "600", "0:0", body},
		"FROM scratch\nADD --chmod=755 --chown=3:4 URL/f.txt /d/\n": {"file", "/d/f.txt", "755", "3:4", body},
		"FROM scratch\nADD --checksum=" + sum + " URL/f.txt /x\n":   {"file", "/x", "600", "0:0", body},
		"FROM scratch\nADD URL/named /d/\n":                         {"file", "/d/named", "600", "0:0", body},
	} {
		res, err := build1(df)
		if err != nil {
			t.Errorf("%s: %v", df, err)
			continue
		}
		if why := fact(h.merged(t, res.Layers), want[0], want[1:]); why != "" {
			t.Errorf("%s: %s", df, why)
		}
	}
	before := sent.Load()
	if _, err := build1("FROM scratch\nADD URL/f.txt /d/\n"); err != nil || sent.Load() != before {
		t.Errorf("an unchanged file was sent again: %v", err)
	}
	if _, err := build1("FROM scratch\nADD --checksum=sha256:" + strings.Repeat("0", 64) + " URL/f.txt /x\n"); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("another checksum: %v", err)
	}
	if _, err := build1("FROM scratch\nADD URL/gone /x\n"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a missing file: %v", err)
	}
	// A foreign syntax line makes no request (CVE-2026-33747).
	asked.Store(0)
	if _, err := build1("# syntax=" + strings.TrimPrefix(srv.URL, "http://") + "/evil:1\nFROM scratch\nCMD [\"x\"]\n"); err != nil || asked.Load() != 0 {
		t.Errorf("a syntax line: %v, %d requests", err, asked.Load())
	}
}

// A tarball's URL is a context, and so is a Dockerfile's.
func TestContextsOverHTTP(t *testing.T) {
	h := newCorpus(t)
	dir := t.TempDir()
	script := "mkdir c && printf 'FROM scratch\\nCOPY f /f\\n' > c/Dockerfile && echo remote > c/f && tar -C c -czf ctx.tar.gz . && printf 'FROM busybox\\nRUN --network=none echo alone > /f\\n' > plain"
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer srv.Close()
	for path, want := range map[string]string{"/ctx.tar.gz": "remote", "/plain": "alone"} {
		res, _, err := h.build(t, build.Request{Context: srv.URL + path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if why := fact(h.merged(t, res.Layers), "file", []string{"/f", "644", "0:0", want}); why != "" {
			t.Errorf("%s: %s", path, why)
		}
	}
}

// A private key is served as an agent, on a socket of the owner asked for.
func TestSSH(t *testing.T) {
	h := newCorpus(t)
	t.Setenv("TMPDIR", t.TempDir()) // where sockets are, of nobody else's agents
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	_, said, err := h.build(t, build.Request{Context: t.TempDir(), SSH: map[string]string{"default": key}, Inline: `FROM busybox
USER ann
RUN --mount=type=ssh,uid=1000,mode=0600 test -S $SSH_AUTH_SOCK && test -w $SSH_AUTH_SOCK && stat -c '%u %a' $SSH_AUTH_SOCK
`})
	if err != nil || !strings.Contains(said.logs.String(), "1000 600") {
		t.Errorf("%v: %s", err, said.logs.String())
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "davit-agent-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	_, _, err = h.build(t, build.Request{Context: t.TempDir(), SSH: map[string]string{"default": ""}, Inline: "FROM busybox\nRUN true\n"})
	if err == nil || !strings.Contains(err.Error(), "SSH_AUTH_SOCK") {
		t.Errorf("no agent: %v", err)
	}
}

// repository serves a git repository by the protocol that needs no git on the
// server's side, and returns its URL.
func repository(t *testing.T) (url, commit string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	dir := t.TempDir()
	script := `set -e
export GIT_CONFIG_GLOBAL=/dev/null
mkdir work && cd work && git init -q -b main .
git config user.email a@b && git config user.name a
mkdir sub && echo inside > sub/f && echo top > top && ln -s /etc out && ln -s ../../../etc up
printf 'FROM scratch\nCOPY top /top\n' > Dockerfile
printf 'FROM scratch\nCOPY f /f\n' > sub/Dockerfile
git add -A && git commit -q -m one && git tag v1
git rev-parse HEAD
cd .. && git clone -q --bare work repo.git && cd repo.git && git update-server-info`
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(srv.Close)
	return srv.URL + "/repo.git", strings.Fields(string(out))[0]
}

func TestGit(t *testing.T) {
	h := newCorpus(t)
	url, commit := repository(t)
	for name, c := range map[string]struct {
		req  build.Request
		want []string // a fact, or error and a text
	}{
		"add":                {build.Request{Inline: "ADD URL /r"}, []string{"file", "/r/sub/f", "644", "0:0", "inside"}},
		"add without git":    {build.Request{Inline: "ADD URL /r"}, []string{"absent", "/r/.git"}},
		"add with git":       {build.Request{Inline: "ADD --keep-git-dir=true URL /r"}, []string{"dir", "/r/.git", "755", "0:0"}},
		"add a tag":          {build.Request{Inline: "ADD URL#v1 /r"}, []string{"file", "/r/top", "644", "0:0", "top"}},
		"add a directory":    {build.Request{Inline: "ADD URL#main:sub /r"}, []string{"only", "/r", "Dockerfile", "f"}},
		"checksum":           {build.Request{Inline: "ADD --checksum=" + commit + " URL /r"}, []string{"file", "/r/top", "644", "0:0"}},
		"another checksum":   {build.Request{Inline: "ADD --checksum=" + strings.Repeat("0", 40) + " URL /r"}, []string{"error", "commit"}},
		"no such branch":     {build.Request{Inline: "ADD URL#nosuch /r"}, []string{"error", "nosuch"}},
		"link out":           {build.Request{Inline: "ADD URL#main:out /r"}, []string{"error", "out"}},
		"link up":            {build.Request{Inline: "ADD URL#main:up /r"}, []string{"error", "up"}},
		"dots":               {build.Request{Inline: "ADD URL#main:../../etc /r"}, []string{"error", ""}},
		"option":             {build.Request{Inline: "ADD URL#--upload-pack=/bin/true /r"}, []string{"error", ""}},
		"other transport":    {build.Request{Contexts: map[string]string{"x": "ext::sh -c 'touch CANARY'"}, Inline: "COPY --from=x . /r"}, []string{"error", ""}},
		"transport in add":   {build.Request{Inline: "ADD git::ext::sh%20-c%20touch%20CANARY /r"}, []string{"error", ""}},
		"a local clone":      {build.Request{Inline: "ADD file:///etc/.git /r"}, []string{"error", ""}},
		"Dockerfile by link": {build.Request{Context: "URL", Dockerfile: "out/passwd"}, []string{"error", "no such file"}},
		"context by link":    {build.Request{Context: "URL#main:out"}, []string{"error", "out"}},
		"context":            {build.Request{Context: "URL"}, []string{"file", "/top", "644", "0:0", "top"}},
		"context directory":  {build.Request{Context: "URL#main:sub"}, []string{"file", "/f", "644", "0:0", "inside"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.req
			canary := filepath.Join(t.TempDir(), "canary")
			defer func() {
				if _, err := os.Stat(canary); err == nil {
					t.Error("a command of the address was run")
				}
			}()
			r.Inline = strings.ReplaceAll(r.Inline, "CANARY", canary)
			for k, v := range r.Contexts {
				r.Contexts[k] = strings.ReplaceAll(v, "CANARY", canary)
			}
			if r.Inline != "" {
				r.Inline = "FROM scratch\n" + strings.ReplaceAll(r.Inline, "URL", url) + "\n"
			}
			if r.Context = strings.ReplaceAll(r.Context, "URL", url); r.Context == "" {
				r.Context = t.TempDir()
			}
			res, _, err := h.build(t, r)
			if c.want[0] == "error" {
				if err == nil || !strings.Contains(err.Error(), c.want[1]) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if why := fact(h.merged(t, res.Layers), c.want[0], c.want[1:]); why != "" {
				t.Error(why)
			}
		})
	}
}
