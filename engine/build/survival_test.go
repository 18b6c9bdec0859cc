package build_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// A killed builder in the tests is this executable with an order.
type order struct {
	Layout  store.Layout
	Program string
	Context string
	Base    shelved2
}

type shelved2 struct {
	Layers []string
	Config []byte
}

func TestMain(m *testing.M) {
	if text := os.Getenv("DAVIT_TEST_BUILD"); text != "" {
		os.Exit(obey(text))
	}
	os.Exit(m.Run())
}

func obey(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println(err)
		return 2
	}
	s := &shelf{images: map[string]shelved{}}
	i := shelved{config: o.Base.Config}
	i.image.ID, i.image.OS, i.image.Arch, i.image.Layers = "sha256:"+strings.Repeat("12", 32), "linux", "amd64", o.Base.Layers
	s.images["docker.io/library/busybox:latest"] = i
	b := build.Builder{Layout: o.Layout, Layers: layer.Open(o.Layout), Images: s, Runner: build.Runner{Program: o.Program, Layout: o.Layout}}
	res, err := b.Build(context.Background(), build.Request{Context: o.Context}, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Print(strings.Join(res.Layers, " "))
	// Its peak of memory, proc_pid_status(5): what rusage says begins with that of
	// the process that started this one.
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			fmt.Fprint(os.Stderr, line)
		}
	}
	return 0
}

func (h *corpus) command(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	base := h.images.images["docker.io/library/busybox:latest"]
	text, err := json.Marshal(order{h.layout, h.runner.Program, dir, shelved2{base.image.Layers, base.config}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "DAVIT_TEST_BUILD="+string(text))
	return cmd
}

// A builder that is killed at any moment leaves nothing mounted, no half layer
// that is believed, and nothing that the collector does not take.
func TestAKilledBuilderHurtsNothing(t *testing.T) {
	h := newCorpus(t)
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", "FROM busybox\nRUN --network=none mkdir /d && seq 1 2000 > /d/n\nCOPY . /ctx/\nRUN --network=none --mount=type=cache,target=/c cat /ctx/f > /d/copy && touch /c/x\n")
	for i := range 200 {
		write(fmt.Sprintf("file%d", i), strings.Repeat(fmt.Sprint(i), 500))
	}
	write("f", "0")
	started := time.Now()
	if out, err := h.command(t, dir).Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole := time.Since(started)
	points := rounds(60)
	for n := range points {
		write("f", fmt.Sprint(n+1))
		h.prune(t, true) // from the beginning again
		cmd := h.command(t, dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(whole * time.Duration(n+1) / time.Duration(points+1)) // the point is the moment
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		out, err := h.command(t, dir).Output()
		if err != nil {
			t.Fatalf("point %d: the next build: %v: %s", n, err, out)
		}
		root := h.merged(t, strings.Fields(string(out)))
		for _, f := range []string{"/d/copy", "/ctx/f"} {
			if b, err := os.ReadFile(root + f); string(b) != fmt.Sprint(n+1) {
				t.Errorf("point %d: %s is %q %v", n, f, b, err)
			}
		}
		if b, _ := os.ReadFile(root + "/d/n"); len(b) != 8893 {
			t.Errorf("point %d: /d/n has %d bytes", n, len(b))
		}
		h.nothingLeft(t, n)
	}
}

func (h *corpus) prune(t *testing.T, all bool) layer.Freed {
	t.Helper()
	b := build.Builder{Layout: h.layout, Layers: h.layers}
	f, err := b.Prune(t.Context(), build.PruneOptions{All: all}, func(keep map[string]bool) error {
		for _, i := range h.images.images {
			for _, l := range i.image.Layers {
				keep[l] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// nothingLeft waits until no process of the store is alive any more, and looks
// at what is mounted and what the collector leaves.
func (h *corpus) nothingLeft(t *testing.T, point int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		left := h.steps()
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("point %d: steps live on: %v", point, left)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), h.layout.Data+"/ingest") {
		t.Errorf("point %d: something is mounted", point)
	}
	h.prune(t, false)
	if left, _ := os.ReadDir(h.layout.Ingest()); len(left) > 0 {
		t.Errorf("point %d: %d drafts are left", point, len(left))
	}
}

// steps are the processes that run a step of this store.
func (h *corpus) steps() []string {
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), h.layout.Data) && !strings.Contains(p, fmt.Sprint("/", os.Getpid(), "/")) {
			found = append(found, p+" "+string(b))
		}
	}
	return found
}

// Builds side by side on one store run each step once, and agree.
func TestBuildsSideBySideShareSteps(t *testing.T) {
	h := newCorpus(t)
	dir := t.TempDir()
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var ran atomic.Int32
	results := make([]string, 5)
	var wg sync.WaitGroup
	for i := range results {
		wg.Add(1)
		go func() {
			defer wg.Done()
			b := build.Builder{Layout: h.layout, Layers: layer.Open(h.layout), Images: h.images, Runner: h.runner}
			res, err := b.Build(t.Context(), build.Request{Context: dir, Inline: "FROM busybox\nRUN --network=none date > /when\nCOPY . /c\nRUN --network=none cat /proc/sys/kernel/random/uuid > /once\n"}, func(s *client.SolveStatus) {
				for _, v := range s.Vertexes {
					if v.Completed != nil && !v.Cached && strings.Contains(v.Name, "RUN") {
						ran.Add(1)
					}
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			results[i] = fmt.Sprint(res.Layers)
		}()
	}
	wg.Wait()
	for _, r := range results {
		if r != results[0] {
			t.Errorf("results differ: %s, %s", r, results[0])
		}
	}
	if ran.Load() != 2 {
		t.Errorf("two steps ran %d times", ran.Load())
	}
}

// The collector takes what is not in use, the least recently used first, and
// never what an image stands on.
func TestPrune(t *testing.T) {
	h := newCorpus(t)
	build1 := func(text string) *build.Result {
		res, _, err := h.build(t, build.Request{Context: t.TempDir(), Inline: text})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	kept := build1("FROM busybox\nRUN --network=none dd if=/dev/zero of=/kept bs=1k count=100\n")
	i := h.images.images["docker.io/library/busybox:latest"]
	i.image.Layers = kept.Layers
	h.images.images["docker.io/library/mine:latest"] = i
	old := build1("FROM busybox\nRUN --network=none dd if=/dev/zero of=/old bs=1k count=100\n")
	last := func(r *build.Result) string { return r.Layers[len(r.Layers)-1] }
	fresh := build1("FROM busybox\nRUN --network=none dd if=/dev/zero of=/fresh bs=1k count=100\n")
	b := build.Builder{Layout: h.layout, Layers: h.layers}
	_, err := b.Prune(t.Context(), build.PruneOptions{Keep: 150 << 10}, func(keep map[string]bool) error {
		for _, l := range kept.Layers {
			keep[l] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !h.layers.Has(last(kept)) || h.layers.Has(last(old)) || !h.layers.Has(last(fresh)) {
		t.Errorf("kept %v, old %v, fresh %v", h.layers.Has(last(kept)), h.layers.Has(last(old)), h.layers.Has(last(fresh)))
	}
	h.prune(t, true)
	if !h.layers.Has(last(kept)) || h.layers.Has(last(fresh)) {
		t.Error("an image lost its layers, or the cache kept its own")
	}
	if again := build1("FROM busybox\nRUN --network=none dd if=/dev/zero of=/fresh bs=1k count=100\n"); !h.layers.Has(last(again)) {
		t.Error("a build after the collector has no layers")
	}
}

// A build that is cancelled ends its command within a second, or a minute where
// others work, too, and leaves nothing mounted.
func TestCancelEndsAtOnce(t *testing.T) {
	h := newCorpus(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := build.Builder{Layout: h.layout, Layers: h.layers, Images: h.images, Runner: h.runner}
	var once sync.Once
	var at time.Time
	_, err := b.Build(ctx, build.Request{Context: t.TempDir(), Inline: "FROM busybox\nRUN echo runs; sleep 1000\n"}, func(s *client.SolveStatus) {
		if len(s.Logs) > 0 {
			once.Do(func() { at = time.Now(); cancel() })
		}
	})
	took := time.Since(at)
	if err == nil || at.IsZero() || took > time.Duration(kernel.Often(60, 1))*time.Second {
		t.Errorf("the build ended %v after it was cancelled: %v", took, err)
	}
	h.nothingLeft(t, 0)
	if _, err := os.Stat(h.layout.Network("davit-build")); err == nil {
		t.Error("the build's network is left")
	}
}
