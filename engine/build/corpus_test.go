package build_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// TestDockerfiles builds every case of testdata/*.txtar. A case is a directory
// of the archive: its Dockerfile, the files of its context, and
//
//	opts   one option a line: arg K=V, label K=V, target STAGE, secret ID=VALUE,
//	       context NAME=DIR or NAME=ANYTHING, network MODE, allow insecure, allow host,
//	       nocache, host NAME:ADDRESS, file NAME (of the Dockerfile), sh COMMAND
//	       (in the context, before the build)
//	want   what must be true, one fact a line:
//	       file PATH MODE UID:GID [CONTENT]   dir PATH MODE UID:GID   link PATH TARGET
//	       absent PATH   only DIR NAME...   same PATH PATH (one inode)   other PATH PATH
//	       xattr PATH NAME VALUE   fifo PATH
//	       config KEY JSON   log TEXT   nolog TEXT   warn TEXT   error TEXT
//
// Without an error line, the build must succeed.
func TestDockerfiles(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("find cases: %v", err)
	}
	h := newCorpus(t)
	count, failing := 0, 0
	for _, p := range archives {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		group := strings.TrimSuffix(filepath.Base(p), ".txtar")
		for _, c := range cases(a) {
			count++
			if strings.Contains("\n"+c.want, "\nerror ") {
				failing++
			}
			t.Run(group+"/"+c.name, func(t *testing.T) { h.try(t, c) })
		}
	}
	if count < 150 || failing < 40 {
		t.Errorf("the corpus has %d cases, %d of them failing ones; it must not shrink below 150 and 40", count, failing)
	}
}

type dockerCase struct {
	name, want, opts string
	files            []txtar.File
}

func cases(a *txtar.Archive) []*dockerCase {
	var all []*dockerCase
	for _, f := range a.Files {
		name, rest, _ := strings.Cut(f.Name, "/")
		if len(all) == 0 || all[len(all)-1].name != name {
			all = append(all, &dockerCase{name: name})
		}
		c := all[len(all)-1]
		switch rest {
		case "want":
			c.want = string(f.Data)
		case "opts":
			c.opts = string(f.Data)
		default:
			c.files = append(c.files, txtar.File{Name: rest, Data: f.Data})
		}
	}
	return all
}

// A corpus is a store with a base image, in which all cases are built.
type corpus struct {
	layout store.Layout
	layers *layer.Store
	images *shelf
	runner build.Runner
}

// newCorpus makes the store and its images, from the host's static busybox.
func newCorpus(t testing.TB) *corpus {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("overlay mounts need root")
	}
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	l, err := store.Locate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{l.Data, l.Run} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h := &corpus{layout: l, layers: layer.Open(l), images: &shelf{images: map[string]shelved{}},
		runner: build.Runner{Program: filepath.Join(bin, "davit-runtime"), Layout: l}}
	base := h.base(t)
	path := []string{"PATH=/bin"}
	h.images.put("busybox", engine.ImageConfig{Env: path, Cmd: []string{"sh"}}, base)
	h.images.put("labelled", engine.ImageConfig{
		Env: append(path, "BASE=yes"), Cmd: []string{"base"}, Entrypoint: []string{"/entry"}, WorkingDir: "/base", User: "ann",
		Labels: map[string]string{"from": "base"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}, Volumes: map[string]struct{}{"/vol": {}},
		StopSignal: "SIGINT",
	}, base)
	h.images.put("onbuild", engine.ImageConfig{Env: path, OnBuild: []string{"COPY a.txt /onbuild.txt", "ENV TRIGGERED=1"}}, base)
	h.images.put("onbuildrun", engine.ImageConfig{Env: path, OnBuild: []string{"RUN echo triggered > /t"}}, base)
	return h
}

// base is a layer with busybox, a user ann (1000:1000), a group staff (50) and
// some directories.
func (h *corpus) base(t testing.TB) string {
	t.Helper()
	d, err := h.layers.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "etc", "tmp", "root", "proc", "sys", "dev", "home/ann", "var/run", "opt/real"} {
		check(os.MkdirAll(filepath.Join(d.FS, dir), 0o755))
	}
	check(os.Chmod(filepath.Join(d.FS, "tmp"), 0o777|os.ModeSticky))
	check(os.Chown(filepath.Join(d.FS, "home/ann"), 1000, 1000))
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs a static busybox at /bin/busybox (make deps)")
	}
	check(os.WriteFile(filepath.Join(d.FS, "bin/busybox"), b, 0o755))
	for _, name := range strings.Fields("sh ash echo cat ls mkdir rm rmdir mv cp ln stat id env printenv touch chmod chown test true false sleep pwd hostname grep sed mount umount find wc head tail sort tr cut readlink ps kill nslookup wget ip df ulimit mkfifo mknod dd tar date od expr seq whoami sync nc") {
		check(os.Symlink("busybox", filepath.Join(d.FS, "bin", name)))
	}
	check(os.WriteFile(filepath.Join(d.FS, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:50::/:/bin/sh\n"), 0o644))
	check(os.WriteFile(filepath.Join(d.FS, "etc/group"), []byte("root:x:0:\nann:x:1000:\nstaff:x:50:ann\n"), 0o644))
	check(os.Symlink("real", filepath.Join(d.FS, "opt/link")))
	check(os.Symlink("/opt/real", filepath.Join(d.FS, "opt/abslink")))
	var id [32]byte
	copy(id[:], "base")
	m, err := d.Commit(hex.EncodeToString(id[:]))
	check(err)
	return m.ID
}

// A shelf is the images that Dockerfiles may start from.
type shelf struct{ images map[string]shelved }

type shelved struct {
	image  engine.Image
	config []byte
}

func (s *shelf) put(name string, c engine.ImageConfig, layers ...string) {
	config, _ := json.Marshal(map[string]any{"os": "linux", "architecture": "amd64", "config": c,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layers[0]}}, "history": []any{}})
	sum := fmt.Sprintf("sha256:%x", []byte(fmt.Sprintf("%032s", name))[:32])
	s.images["docker.io/library/"+name+":latest"] = shelved{engine.Image{ID: sum, OS: "linux", Arch: "amd64", Config: c, Layers: layers}, config}
}

// Resolve implements ops.ImageSource.
func (s *shelf) Resolve(_ context.Context, ref, _, _ string) (engine.Image, []byte, error) {
	name, _, _ := strings.Cut(ref, "@")
	if i, ok := s.images[name]; ok {
		return i.image, i.config, nil
	}
	return engine.Image{}, nil, fmt.Errorf("image %s: no such image", ref)
}

// A reading is what a build said.
type reading struct {
	mu    sync.Mutex
	logs  bytes.Buffer
	warns []string
}

func (r *reading) report(s *client.SolveStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range s.Logs {
		r.logs.Write(l.Data)
	}
	for _, w := range s.Warnings {
		r.warns = append(r.warns, string(w.Short))
	}
}

func (h *corpus) try(t *testing.T, c *dockerCase) {
	dir := t.TempDir()
	for _, f := range c.files {
		p := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	req := build.Request{Context: dir, Args: map[string]string{}, Labels: map[string]string{}, Contexts: map[string]string{}, Secrets: map[string]build.SecretSource{}}
	for _, line := range strings.Split(strings.TrimSpace(c.opts), "\n") {
		option(t, &req, line)
	}
	res, said, err := h.build(t, req)
	h.judge(t, c, res, said, err)
}

func option(t *testing.T, r *build.Request, line string) {
	t.Helper()
	word, rest, _ := strings.Cut(line, " ")
	k, v, _ := strings.Cut(rest, "=")
	switch word {
	case "":
	case "arg":
		r.Args[k] = v
	case "label":
		r.Labels[k] = v
	case "target":
		r.Target = rest
	case "network":
		r.Network = rest
	case "nocache":
		r.NoCache = true
	case "host":
		r.ExtraHosts = append(r.ExtraHosts, rest)
	case "file":
		r.Dockerfile = rest
	case "allow":
		r.Insecure, r.HostNet = r.Insecure || rest == "insecure", r.HostNet || rest == "host"
	case "secret":
		p := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(p, []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
		r.Secrets[k] = build.SecretSource{File: p}
	case "context":
		if d := filepath.Join(r.Context, v); v != "" {
			if _, err := os.Stat(d); err == nil {
				v = d
			}
		}
		r.Contexts[k] = v
	case "shm":
		r.ShmSize, _ = strconv.ParseInt(rest, 10, 64)
	case "sh":
		cmd := exec.Command("/bin/sh", "-c", rest)
		cmd.Dir = r.Context
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", rest, err, out)
		}
	default:
		t.Fatalf("unknown option %q", line)
	}
}

func (h *corpus) build(t testing.TB, req build.Request) (*build.Result, *reading, error) {
	t.Helper()
	b := build.Builder{Layout: h.layout, Layers: h.layers, Images: h.images, Runner: h.runner}
	said := new(reading)
	d, err := build.NewDisplay(io.Discard, "plain")
	if err != nil {
		t.Fatal(err)
	}
	res, err := b.Build(t.Context(), req, func(s *client.SolveStatus) { said.report(s); d.Report(s) })
	d.Close()
	return res, said, d.Explain(err)
}

// merged mounts a stack of layers for as long as the test runs.
func (h *corpus) merged(t testing.TB, layers []string) string {
	t.Helper()
	at, empty := t.TempDir(), t.TempDir()
	lowers := []string{empty, empty + "/."}
	if err := os.Mkdir(empty+"/e", 0o755); err != nil {
		t.Fatal(err)
	}
	lowers = []string{empty + "/e"}
	for _, id := range slices.Backward(layers) {
		lowers = append(lowers, h.layers.FS(id))
	}
	if len(lowers) == 1 {
		return empty + "/e"
	}
	opts := "index=off,metacopy=off,lowerdir=" + strings.Join(lowers, ":")
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}
