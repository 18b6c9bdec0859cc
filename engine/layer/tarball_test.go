package layer

import (
	"archive/tar"
	"bytes"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/store"
)

// An ent is one entry of a test archive.
type ent struct {
	tar.Header
	body string
}

var stamp = time.Unix(1_600_000_000, 0)

func dir(name string) ent {
	return ent{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func file(name, body string) ent {
	return ent{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, body: body}
}

func sym(name, target string) ent {
	return ent{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hard(name, target string) ent {
	return ent{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

func chr(name string, major, minor int64) ent {
	return ent{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Devmajor: major, Devminor: minor, Mode: 0o666}}
}

func (e ent) with(f func(h *tar.Header)) ent {
	f(&e.Header)
	return e
}

// archive writes entries as a tar.
func archive(t testing.TB, ents ...ent) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range ents {
		h := e.Header
		if h.ModTime.IsZero() {
			h.ModTime = stamp
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("write entry %q: %v", h.Name, err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatalf("write entry %q: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func testStore(t testing.TB) *Store {
	t.Helper()
	l, err := store.Locate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return Open(l)
}

// unpack makes a layer of entries and returns its directory.
func unpack(t testing.TB, s *Store, ents ...ent) (Meta, string) {
	t.Helper()
	m, err := s.Unpack(t.Context(), bytes.NewReader(archive(t, ents...)))
	if err != nil {
		t.Fatal(err)
	}
	return m, s.FS(m.ID)
}
