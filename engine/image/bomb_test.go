package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/davit-run/davit/engine/layer"
)

// bombMember is a tar entry of 64 MiB of zeros, without the archive's end.
func bombMember(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestCompressionBombs: 10 MB that unpack to 10 GB stop at the limit, a frame
// that asks for more memory than the window allowed is refused, and nothing
// of either stays.
func TestCompressionBombs(t *testing.T) {
	member := bombMember(t)
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(member); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := e.EncodeAll(member, nil)
	for name, c := range map[string]struct {
		r    io.Reader
		want string
	}{
		"gzip": {repeated(packed.Bytes(), 160), "more than 134217728 bytes: refused as a possible archive bomb"},
		"zstd": {repeated(frame, 160), "more than 134217728 bytes: refused as a possible archive bomb"},
		// Window_Descriptor 0xff: 3.75 TiB (RFC 8878 3.1.1.1.2).
		"zstd window": {bytes.NewReader(append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff}, make([]byte, 1000)...)), "window size exceeded"},
	} {
		s := testStore(t)
		s.layers.Limits = layer.Limits{Bytes: 128 << 20}
		_, err := s.Import(t.Context(), c.r, "bomb:1", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one about %q", name, err, c.want)
		}
		if left, _ := os.ReadDir(s.layout.Ingest()); len(left) > 0 {
			t.Errorf("%s: left in the ingest directory: %v", name, left)
		}
		if left, _ := filepath.Glob(filepath.Join(s.layout.Layers(), "*")); len(left) > 0 {
			t.Errorf("%s: layers: %v", name, left)
		}
	}
}

// repeated is a stream of n times the same bytes.
func repeated(b []byte, n int) io.Reader {
	all := make([]io.Reader, n)
	for i := range all {
		all[i] = bytes.NewReader(b)
	}
	return io.MultiReader(all...)
}
