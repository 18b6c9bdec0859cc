package build_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/davit-run/davit/engine/build"
)

// project is a context of 5,000 small files and 20 large ones of the given
// size, with a Dockerfile of two RUN steps.
func project(b *testing.B, large int) string {
	b.Helper()
	dir := b.TempDir()
	write := func(name string, size int) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.Fatal(err)
		}
		text := make([]byte, size)
		_, _ = rand.Read(text)
		if err := os.WriteFile(p, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 5000 {
		write(fmt.Sprintf("src/d%02d/f%d.js", i%100, i), 200+i)
	}
	for i := range 20 {
		write(fmt.Sprintf("assets/a%d.bin", i), large)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM busybox\nWORKDIR /app\nRUN --network=none echo 1 > /one\nCOPY . .\nRUN --network=none echo 2 > /two\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	return dir
}

func (h *corpus) must(b *testing.B, dir string) {
	b.Helper()
	if _, _, err := h.build(b, build.Request{Context: dir}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCached builds what did not change: 5,000 files and 200 MB.
func BenchmarkCached(b *testing.B) {
	h, dir := newCorpus(b), project(b, 10<<20)
	h.must(b, dir)
	for b.Loop() {
		h.must(b, dir)
	}
}

// BenchmarkOneFileChanged is the same with one small file changed each time.
func BenchmarkOneFileChanged(b *testing.B) {
	h, dir := newCorpus(b), project(b, 10<<20)
	h.must(b, dir)
	n := 0
	for b.Loop() {
		n++
		if err := os.WriteFile(filepath.Join(dir, "src/d07/f7.js"), fmt.Append(nil, n), 0o644); err != nil {
			b.Fatal(err)
		}
		h.must(b, dir)
	}
}
