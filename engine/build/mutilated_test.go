package build_test

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/davit-run/davit/engine/build"
)

// A Dockerfile with anything in it is an error or a build, and never the end of
// the process: the corpus with bytes and lines changed at random.
func TestMutilatedDockerfiles(t *testing.T) {
	h := newCorpus(t)
	var texts []string
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, p := range archives {
		a, err := txtar.ParseFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if strings.HasSuffix(f.Name, "/Dockerfile") {
				texts = append(texts, string(f.Data))
			}
		}
	}
	if len(texts) < 150 {
		t.Fatalf("%d Dockerfiles", len(texts))
	}
	dir, fine := t.TempDir(), 0
	b := build.Builder{Layout: h.layout, Layers: h.layers, Images: h.images, Runner: noRunner{}}
	for seed := range uint64(rounds(5000)) {
		r := rand.New(rand.NewPCG(seed, 3))
		text := mutilate(r, texts[r.IntN(len(texts))], texts[r.IntN(len(texts))])
		if strings.TrimSpace(text) == "" || strings.Contains(text, "://") {
			continue
		}
		call := []string{build.CallCheck, build.CallOutline, build.CallTargets}[seed%3]
		if _, _, _, err := b.Call(t.Context(), build.Request{Context: dir, Inline: text}, call, nil); err == nil {
			fine++
		}
		if _, err := b.Build(t.Context(), build.Request{Context: dir, Inline: text}, nil); err != nil && strings.Contains(err.Error(), "runtime error") {
			t.Errorf("seed %d: %v\n%s", seed, err, text)
		}
	}
	if fine == 0 {
		t.Error("nothing was understood any more: they are mutilated too much")
	}
}

// mutilate changes some bytes and lines of a text; what is strange to it comes
// from another one.
func mutilate(r *rand.Rand, text, other string) string {
	lines, strange := strings.Split(text, "\n"), strings.Split(other, "\n")
	for range 1 + r.IntN(3) {
		at := r.IntN(len(lines))
		switch r.IntN(5) {
		case 0:
			lines[at] = strange[r.IntN(len(strange))]
		case 1:
			lines = slices.Insert(lines, at, strange[r.IntN(len(strange))])
		case 2:
			lines[at] = strings.Repeat(lines[at]+" ", r.IntN(4))
		default:
			if b := []byte(lines[at]); len(b) > 0 {
				b[r.IntN(len(b))] = "$<{}[]\"'\\=-:/,# "[r.IntN(16)]
				lines[at] = string(b)
			}
		}
	}
	return strings.Join(lines, "\n")
}
