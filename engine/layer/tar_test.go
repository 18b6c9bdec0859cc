package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTarIsTheSame unpacks archives of several makers' ways and wants their
// very bytes back.
func TestTarIsTheSame(t *testing.T) {
	long := strings.Repeat("n", 150) + "/" + strings.Repeat("m", 120)
	gnu := func(h *tar.Header) { h.Format = tar.FormatGNU }
	for name, b := range map[string][]byte{
		"usual":            archive(t, dir("d/"), file("d/f", "hello"), file("e", strings.Repeat("x", 100_000)), hard("h", "e"), sym("s", "e"), chr("c", 1, 3)),
		"pax":              archive(t, file(long, "hello"), file("ü", "x").with(func(h *tar.Header) { h.ModTime = time.Unix(1, 5); h.Format = tar.FormatPAX })),
		"gnu long names":   archive(t, file(long, "hello").with(gnu), sym("l", long).with(gnu)),
		"no end":           archive(t, file("f", "hello"))[:1024],
		"padded":           append(archive(t, file("f", "hello")), make([]byte, 100_000)...),
		"nothing":          archive(t),
		"whiteouts":        archive(t, file("d/.wh.x", ""), file("d/.wh..wh..opq", ""), file("d/y", "y")),
		"through a link":   archive(t, dir("etc"), sym("l", "/etc"), file("l/f", "hello")),
		"directory twice":  archive(t, dir("d"), file("d/f", "x"), dir("d")),
		"skipped metadata": archive(t, file(".wh..wh.aufs", "payload"), file("f", "x")),
	} {
		t.Run(name, func(t *testing.T) {
			s := testStore(t)
			m, err := s.Unpack(t.Context(), bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(b)
			if m.ID != hex.EncodeToString(sum[:]) || m.TarSize != int64(len(b)) {
				t.Errorf("digest %s of %d bytes, want %x of %d", m.ID, m.TarSize, sum, len(b))
			}
			var out bytes.Buffer
			if err := s.Tar(t.Context(), m.ID, &out); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), b) {
				t.Errorf("%d bytes came back, not the %d that went in", out.Len(), len(b))
			}
		})
	}
}

// TestTarNoticesChange: a layer that somebody edited is not given out under
// its old digest.
func TestTarNoticesChange(t *testing.T) {
	s := testStore(t)
	m, root := unpack(t, s, file("f", "hello"))
	if err := os.WriteFile(filepath.Join(root, "f"), []byte("jello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Tar(t.Context(), m.ID, io.Discard); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("error is %v, want one about a change", err)
	}
}

// TestReplacedContent: where an archive writes a path twice, its first content
// is gone, and a tar is made afresh, with the same files.
func TestReplacedContent(t *testing.T) {
	s := testStore(t)
	m, _ := unpack(t, s, file("f", "one"), file("f", "two"), file("g", "g"))
	if s.HasRecipe(m.ID) {
		t.Fatal("a recipe was kept although content is gone")
	}
	d, err := s.Digest(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Tar(t.Context(), m.ID, &out); err != nil {
		t.Fatal(err)
	}
	again, err := testStore(t).Unpack(t.Context(), &out)
	if err != nil || again.ID != d.DiffID || again.TarSize != d.TarSize {
		t.Errorf("the new tar is %s of %d bytes (%v), want %s of %d", again.ID, again.TarSize, err, d.DiffID, d.TarSize)
	}
}

func TestSparseFileStaysSparse(t *testing.T) {
	b := oldGNUSparse("big", 1<<30, []span{{0, "head"}, {512 << 20, "middle"}})
	s := testStore(t)
	m, err := s.Unpack(t.Context(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(s.FS(m.ID), "big"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 1<<30 || st.Blocks*512 > 1<<20 {
		t.Errorf("size %d, on disk %d; want %d and little", st.Size, st.Blocks*512, 1<<30)
	}
	f, err := os.Open(filepath.Join(s.FS(m.ID), "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, 6)
	if _, err := f.ReadAt(got, 512<<20); err != nil || string(got) != "middle" {
		t.Errorf("in the middle is %q (%v)", got, err)
	}
	var out bytes.Buffer
	if err := s.Tar(t.Context(), m.ID, &out); err != nil || !bytes.Equal(out.Bytes(), b) {
		t.Errorf("the archive came back as %d bytes (%v), want %d", out.Len(), err, len(b))
	}
}

// TestSparseOfGNUTar: what the real tar writes, in each of its sparse formats.
func TestSparseOfGNUTar(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(9) {
		if _, err := f.WriteAt([]byte("data"), i<<24); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	for _, format := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"}} {
		b, err := exec.Command("tar", append(format, "-S", "-C", dir, "-cf", "-", "holes")...).Output()
		if err != nil {
			t.Skipf("tar: %v", err)
		}
		s := testStore(t)
		m, err := s.Unpack(t.Context(), bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%v: %v", format, err)
		}
		if err := exec.Command("cmp", filepath.Join(dir, "holes"), filepath.Join(s.FS(m.ID), "holes")).Run(); err != nil {
			t.Errorf("%v: the file is another: %v", format, err)
		}
		var out bytes.Buffer
		if err := s.Tar(t.Context(), m.ID, &out); err != nil || !bytes.Equal(out.Bytes(), b) || m.Size > 1<<20 {
			t.Errorf("%v: %d bytes came back (%v) of %d; size %d", format, out.Len(), err, len(b), m.Size)
		}
	}
}

type span struct {
	at   int64
	data string
}

// oldGNUSparse writes an entry of type S: up to four spans fit its header.
func oldGNUSparse(name string, size int64, spans []span) []byte {
	h := make([]byte, 512)
	octal := func(at, n int, v int64) { copy(h[at:at+n], fmt.Sprintf("%0*o\x00", n-1, v)) }
	copy(h, name)
	octal(100, 8, 0o644)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(136, 12, stamp.Unix())
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	var data []byte
	for i, sp := range spans {
		block := []byte(sp.data)
		block = append(block, make([]byte, 512-len(block)%512)...)
		octal(386+24*i, 12, sp.at)
		octal(386+24*i+12, 12, int64(len(block)))
		data = append(data, block...)
	}
	octal(483, 12, size)
	if size >= 1<<33 { // too large for octal: GNU's binary form
		copy(h[483:], "\x80\x00\x00\x00")
		binary.BigEndian.PutUint64(h[487:], uint64(size))
	}
	octal(124, 12, int64(len(data)))
	copy(h[148:], "        ")
	sum := int64(0)
	for _, c := range h {
		sum += int64(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(append(h, data...), make([]byte, 1024)...)
}

// Where links have been followed, one that is there now was put there since: it
// would lead whoever unpacks it to a place of its own choice.
func TestALinkInThePlaceOfWhatItLedToIsRefused(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("/etc/shadow", filepath.Join(root, "f")); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := TarAt(t.Context(), dir, "f", "name", io.Discard, TarOptions{Plain: true}); err != nil {
		t.Errorf("a link that is wanted: %v", err)
	}
	err = TarAt(t.Context(), dir, "f", "name", io.Discard, TarOptions{Plain: true, Followed: "name"})
	if !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v", err)
	}
}
