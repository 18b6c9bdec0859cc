package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAttributesAreKept(t *testing.T) {
	s := testStore(t)
	// A capability of version 2: cap_net_bind_service, permitted and effective.
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	_, root := unpack(t, s,
		dir("./").with(func(h *tar.Header) { h.Mode = 0o711; h.Uid = 7 }),
		dir("tmp").with(func(h *tar.Header) { h.Mode = 0o1777 }),
		file("su", "x").with(func(h *tar.Header) { h.Mode = 0o6755; h.Uid, h.Gid = 1000, 1001 }),
		file("bind", "x").with(func(h *tar.Header) {
			h.Uid = 5
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.note": "hello"}
		}),
		sym("link", "su").with(func(h *tar.Header) { h.Uid = 1000; h.ModTime = stamp.Add(time.Hour) }),
		file("tmp/fine", "x").with(func(h *tar.Header) { h.ModTime = time.Unix(1_500_000_000, 123_456_789); h.Format = tar.FormatPAX }),
		ent{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o622}},
		ent{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "loop", Mode: 0o660, Gid: 6, Devmajor: 7, Devminor: 300}},
	)
	for path, want := range map[string]string{
		".": "40711 7:0 1600000000.0", "tmp": "41777 0:0 1600000000.0", "su": "106755 1000:1001 1600000000.0",
		"link": "120777 1000:0 1600003600.0", "tmp/fine": "100644 0:0 1500000000.123456789",
		"fifo": "10622 0:0 1600000000.0", "loop": "60660 0:6 1600000000.0",
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(root, path), &st); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%o %d:%d %d.%d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	for name, want := range map[string]string{"security.capability": capability, "user.note": "hello"} {
		buf := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(root, "bind"), name, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%s is %q (%v), want %q", name, buf[:max(n, 0)], err, want)
		}
	}
}

// TestUnpackMerged looks at two layers through overlayfs, as a container does.
func TestUnpackMerged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting an overlay needs the superuser")
	}
	s := testStore(t)
	_, low := unpack(t, s, dir("a"), file("a/old", "1"), dir("b"), file("b/x", "1"), file("gone", "1"), dir("dir"), file("dir/f", "1"))
	_, top := unpack(t, s, dir("a"), file("a/.wh..wh..opq", ""), file("a/new", "2"), file("b/.wh.x", ""), file(".wh.gone", ""), file(".wh.dir", ""))
	at := t.TempDir()
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+top+":"+low); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	for path, want := range map[string]string{"a/old": "nothing", "a/new": "file 2", "b/x": "nothing", "gone": "nothing", "dir": "nothing", "b": "dir"} {
		if got := tell(at, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

func TestUnpackAtOnce(t *testing.T) {
	b := archive(t, dir("d"), file("d/f", strings.Repeat("x", 1<<20)))
	first := testStore(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s := Open(first.layout) // as another process would
			if _, err := s.Unpack(t.Context(), bytes.NewReader(b)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := first.List()
	if err != nil || len(all) != 1 {
		t.Errorf("%d layers (%v), want one", len(all), err)
	}
	if left := names(t, first.layout.Ingest()); left != "" {
		t.Errorf("left in the ingest directory: %s", left)
	}
}

func TestUnpackIsInterrupted(t *testing.T) {
	s := testStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		b := archive(t, file("f", strings.Repeat("x", 1<<20)))
		_, _ = w.Write(b[:1<<19])
		cancel()
		_, _ = w.Write(b[1<<19:])
		w.Close()
	}()
	if _, err := s.Unpack(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	r.Close()
	if left := names(t, s.layout.Ingest()); left != "" {
		t.Errorf("left in the ingest directory: %s", left)
	}
}

// TestMarksOfTheOverlay: an archive cannot set what overlayfs believes, for
// either kind of mount, nor the labels of the host's security module.
func TestMarksOfTheOverlay(t *testing.T) {
	_, root := unpack(t, testStore(t), file("f", "").with(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/etc",
			"SCHILY.xattr.security.selinux": "x", "SCHILY.xattr.user.fine": "y"}
	}))
	list := make([]byte, 1000)
	n, err := unix.Llistxattr(filepath.Join(root, "f"), list)
	if got := string(list[:max(n, 0)]); err != nil || got != "user.fine\x00" {
		t.Errorf("attributes are %q (%v), want user.fine alone", got, err)
	}
}
