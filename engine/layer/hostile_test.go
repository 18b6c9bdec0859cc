package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// A bomb asks for too much.
type bomb struct {
	name   string
	limits Limits
	b      []byte
	want   string // of the error
}

// bombs are archives that ask for too much, or are none.
func bombs(t testing.TB) []bomb {
	pax := map[string]string{}
	for i := range 40_000 {
		pax[fmt.Sprintf("DAVIT.k%d", i)] = "v"
	}
	many := make([]ent, 0, 2000)
	for i := range 2000 {
		many = append(many, file(fmt.Sprintf("f%d", i), ""))
	}
	big := archive(t, file("a", strings.Repeat("x", 600_000)), file("b", strings.Repeat("x", 600_000)))
	return []bomb{
		{"entries", Limits{Entries: 1000}, archive(t, many...), "more than 1000 entries"},
		{"bytes", Limits{Bytes: 1_000_000}, big, "more than 1000000 bytes"},
		{"8 EiB sparse", Limits{}, oldGNUSparse("s", 1<<62, []span{{0, "x"}}), "bytes of sparse files"},
		{"sparse beyond limit", Limits{Sparse: 1 << 20}, oldGNUSparse("s", 1<<30, []span{{0, "x"}}), "bytes of sparse files"},
		{"declared size", Limits{Bytes: 1 << 20}, bigHeader(1 << 40), "bytes"},
		{"extended attributes", Limits{}, archive(t, file("f", "").with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 70_000)}
		})), "extended attributes"},
		{"PAX keys", Limits{PAX: 300_000}, archive(t, file("f", "").with(func(h *tar.Header) { h.PAXRecords = pax })), "PAX records"},
		{"padding", Limits{}, append(archive(t), make([]byte, 65<<20)...), "bytes of padding"},
		{"data after the end", Limits{}, append(archive(t), []byte("more")...), "after the end"},
		{"truncated in header", Limits{}, big[:200], "ends within entry 1"},
		{"truncated in file", Limits{}, big[:100_000], "ends within this file"},
		{"truncated at padding", Limits{}, big[:512+600_000], "ends within"},
		{"empty", Limits{}, nil, "empty"},
		{"noise", Limits{}, bytes.Repeat([]byte("noise"), 1000), "invalid tar header"},
		{"gzip", Limits{}, append([]byte{0x1f, 0x8b}, make([]byte, 2000)...), "invalid tar header"},
		{"strange type", Limits{}, archive(t, ent{Header: tar.Header{Typeflag: 'Z', Name: "f"}}), "not supported"},
		{"NUL in a path", Limits{}, nulPath(), ""},
	}
}

// TestDiskFull unpacks onto a disk of 1 MiB, and one without inodes.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs the superuser")
	}
	many := make([]ent, 0, 200)
	for i := range 200 {
		many = append(many, file(fmt.Sprintf("f%d", i), "x"))
	}
	for options, b := range map[string][]byte{
		"size=1m":              archive(t, file("a", strings.Repeat("x", 700_000)), file("b", strings.Repeat("x", 700_000))),
		"size=1m,nr_inodes=50": archive(t, many...),
	} {
		s := testStore(t)
		if err := os.MkdirAll(s.layout.Data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", s.layout.Data, "tmpfs", 0, options); err != nil {
			t.Fatal(err)
		}
		_, err := s.Unpack(t.Context(), bytes.NewReader(b))
		if !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), "bomb") {
			t.Errorf("%s: error is %v, want %v", options, err, unix.ENOSPC)
		}
		if left := names(t, s.layout.Ingest()); left != "" {
			t.Errorf("%s: left in the ingest directory: %s", options, left)
		}
		small := archive(t, file("f", "x"))
		if _, err := s.Unpack(t.Context(), bytes.NewReader(small)); err != nil {
			t.Errorf("%s: with space again: %v", options, err)
		}
		if err := unix.Unmount(s.layout.Data, 0); err != nil {
			t.Error(err)
		}
	}
}

func bigHeader(size int64) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "big", Size: size, Typeflag: tar.TypeReg, Format: tar.FormatGNU})
	return b.Bytes()
}

func nulPath() []byte {
	b := []byte("30 path=a\x00/../../../../../etc\n")
	h := bigHeader(int64(len(b)))
	h[156] = 'x'
	return append(h, b...)
}

// TestRandomArchives flips bytes of a good archive: an error or a layer, never
// anything outside, never a leftover.
func TestRandomArchives(t *testing.T) {
	good := archive(t, dir("d"), file("d/f", "hello"), sym("l", "/d"), file("l/g", "x"), hard("h", "d/f"), file("d/.wh.x", ""), chr("c", 1, 3))
	rounds := 300
	if os.Getenv("DAVIT_LONG") != "" {
		rounds = 20_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	s := testStore(t)
	for range rounds {
		b := bytes.Clone(good)
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] = byte(r.UintN(256))
		}
		if m, err := s.Unpack(t.Context(), bytes.NewReader(fixSums(b))); err == nil {
			_ = s.Remove(m.ID)
		}
	}
	if got := names(t, filepath.Dir(s.layout.Data)); got != "data" {
		t.Errorf("beside the data directory: %s", got)
	}
	if left := names(t, s.layout.Ingest()); left != "" {
		t.Errorf("left in the ingest directory: %s", left)
	}
}

// fixSums makes header checksums right, so that damage gets past them.
func fixSums(b []byte) []byte {
	for at := 0; at+512 <= len(b); at += 512 {
		h := b[at : at+512]
		if string(h[257:262]) != "ustar" {
			continue
		}
		copy(h[148:], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
	return b
}

func FuzzUnpack(f *testing.F) {
	for _, c := range append(breakouts, whiteouts...) {
		if !strings.Contains(c.name, "long") {
			f.Add(archive(f, c.ents...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// In memory, and without the sync of a layer that is kept: that would
		// be most of the time.
		root, err := os.MkdirTemp("/dev/shm", "davit-fuzz-")
		if err != nil {
			root = t.TempDir()
		}
		defer os.RemoveAll(root)
		l, err := store.Locate(root)
		if err != nil {
			t.Fatal(err)
		}
		s := Open(l)
		s.Limits = Limits{Bytes: 1 << 20, Sparse: 1 << 20, Entries: 100}
		if st, err := s.Stage(t.Context(), bytes.NewReader(fixSums(b))); err == nil {
			inside(t, "fuzz", filepath.Join(st.dir.path, "fs"))
			st.Discard()
		}
		if got := names(t, root); got != "data" {
			t.Errorf("beside the data directory: %s", got)
		}
		if left := names(t, l.Ingest()); left != "" {
			t.Errorf("left in the ingest directory: %s", left)
		}
	})
}
