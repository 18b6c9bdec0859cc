package registry

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkPull pulls 277 MB in six layers, of bytes that hardly compress,
// from this process into an empty store, until they are on disk.
func BenchmarkPull(b *testing.B) {
	f := &faulty{blobs: map[string][]byte{}, kinds: map[string]string{}, tags: map[string]string{}, gets: map[string]int{}}
	f.start()
	defer f.Close()
	var contents []string
	for i := range 6 {
		contents = append(contents, noise(46<<20, i))
	}
	f.addImage(b, "v1", contents...)
	for b.Loop() {
		b.StopTimer()
		l := testLayout(b)
		unix.Sync()
		b.StartTimer()
		if _, err := client(b, l, Options{}).Pull(b.Context(), f.host()+"/web:v1", ""); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = os.RemoveAll(filepath.Dir(l.Data))
		b.StartTimer()
	}
}
