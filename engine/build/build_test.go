package build_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/client"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
)

// noImages has no images: what is tested here starts FROM scratch.
type noImages struct{}

func (noImages) Resolve(_ context.Context, ref, _, _ string) (engine.Image, []byte, error) {
	return engine.Image{}, nil, errors.New(ref + ": no such image")
}

// noRunner refuses to run commands.
type noRunner struct{}

func (noRunner) RunStep(context.Context, engine.RunStep, io.Writer, io.Writer) (int, error) {
	return 0, errors.New("no commands here")
}

type bench struct {
	t       testing.TB
	dir     string
	builder *build.Builder
}

func newBench(t testing.TB) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("overlay mounts need root")
	}
	root := t.TempDir()
	l, err := store.Locate(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{l.Data, l.Run} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &bench{t: t, dir: t.TempDir(), builder: &build.Builder{Layout: l, Layers: layer.Open(l), Images: noImages{}, Runner: noRunner{}}}
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	p := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// build returns the result and which steps were run rather than found.
func (b *bench) build() (*build.Result, []string) {
	b.t.Helper()
	var mu sync.Mutex
	var ran []string
	res, err := b.builder.Build(context.Background(), build.Request{Context: b.dir}, func(s *client.SolveStatus) {
		mu.Lock()
		defer mu.Unlock()
		for _, v := range s.Vertexes {
			if v.Completed != nil && !v.Cached && !strings.HasPrefix(v.Name, "[internal]") {
				ran = append(ran, v.Name)
			}
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return res, ran
}

// read finds a file in the result: the topmost layer that has it.
func (b *bench) read(res *build.Result, name string) string {
	b.t.Helper()
	for i := len(res.Layers) - 1; i >= 0; i-- {
		p := filepath.Join(b.builder.Layers.FS(res.Layers[i]), name)
		st, err := os.Lstat(p)
		if err != nil {
			continue
		}
		if st.Mode()&os.ModeCharDevice != 0 {
			return "gone"
		}
		c, err := os.ReadFile(p)
		if err != nil {
			b.t.Fatal(err)
		}
		return string(c)
	}
	return "absent"
}

func TestCopyBringsChangesAlone(t *testing.T) {
	b := newBench(t)
	b.write("Dockerfile", "FROM scratch\nWORKDIR /app\nCOPY . .\nCMD [\"/app/run\"]\n")
	b.write(".dockerignore", "secret*\nDockerfile\n")
	b.write("a.txt", "one")
	b.write("sub/b.txt", "two")
	b.write("secret.txt", "hidden")
	first, ran := b.build()
	if len(ran) == 0 {
		t.Fatal("nothing was run")
	}
	if got := b.read(first, "app/a.txt") + b.read(first, "app/sub/b.txt") + b.read(first, "app/secret.txt"); got != "onetwoabsent" {
		t.Fatalf("first build holds %q", got)
	}
	again, ran := b.build()
	if len(ran) != 0 || strings.Join(again.Layers, " ") != strings.Join(first.Layers, " ") {
		t.Fatalf("an unchanged build ran %q and left %v, not %v", ran, again.Layers, first.Layers)
	}
	b.write("a.txt", "three")
	if err := os.Remove(filepath.Join(b.dir, "sub/b.txt")); err != nil {
		t.Fatal(err)
	}
	third, _ := b.build()
	if got := b.read(third, "app/a.txt") + b.read(third, "app/sub/b.txt"); got != "threegone" {
		t.Fatalf("the changed build holds %q", got)
	}
	if len(third.Layers) != len(first.Layers)+1 {
		t.Fatalf("the change was not laid over the first copy: %v after %v", third.Layers, first.Layers)
	}
}
