package image

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// benchArchive is an image of 277 MB in six layers, of files that compress to
// about a half, as programs do.
func benchArchive(b *testing.B, pack func(testing.TB, []byte) []byte) []byte {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]byte, 1<<20)
	for i := range words {
		words[i] = byte(r.UintN(40))
	}
	var files []entry
	var layers [][]byte
	var names string
	for i := range 6 {
		var content []entry
		for j := range 184 {
			at := r.IntN(len(words) / 2)
			content = append(content, entry{fmt.Sprintf("usr/%d/%d", i, j), string(words[at : at+len(words)/4])})
		}
		layer := tarOf(b, content...)
		layers = append(layers, layer)
		name := fmt.Sprintf("%d/layer.tar", i)
		files = append(files, entry{name, string(pack(b, layer))})
		names += `,"` + name + `"`
	}
	files = append(files, entry{"c.json", string(configOf(b, layers...))},
		entry{"manifest.json", `[{"Config":"c.json","RepoTags":["bench:1"],"Layers":[` + names[1:] + `]}]`})
	return tarOf(b, files...)
}

// BenchmarkLoad loads an image of 277 MB (or the archive that
// DAVIT_BENCH_ARCHIVE names) into an empty store, until it is on disk; beside
// it the floor, writing as many bytes and syncing.
func BenchmarkLoad(b *testing.B) {
	for name, pack := range map[string]func(testing.TB, []byte) []byte{"plain": same, "gzip": zip} {
		b.Run(name, func(b *testing.B) {
			path := os.Getenv("DAVIT_BENCH_ARCHIVE")
			if path == "" {
				path = asFile(b, benchArchive(b, pack)).Name()
			}
			for b.Loop() {
				b.StopTimer()
				s := testStore(b)
				unix.Sync()
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := s.Load(b.Context(), f); err != nil {
					b.Fatal(err)
				}
				f.Close()
			}
		})
	}
	b.Run("floor", func(b *testing.B) {
		content := bytes.Repeat([]byte("davit"), 277_000_000/5)
		for b.Loop() {
			f, err := os.Create(b.TempDir() + "/f")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.Write(content); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}
