package ops

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store/inroot"
)

// maxUnpacked bounds what an archive may become, in bytes and entries.
const (
	maxUnpacked = 32 << 30
	maxEntries  = 2 << 20
)

// unpack extracts the file at src below dest when it is a tar archive, plain
// or compressed, as ADD does; anything else it leaves to a plain copy.
func unpack(ctx context.Context, t scan.Tree, src string, root *inroot.Root, dest string, opts copyin.Options) (bool, error) {
	p, err := scan.Resolve(t, src, true)
	if err != nil {
		return false, nil // the copy tells what is wrong
	}
	e, err := t.Lstat(p)
	if err != nil || !e.IsRegular() {
		return false, nil
	}
	f, err := t.Open(p)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r, err := image.Decompress(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return false, nil
	}
	defer r.Close()
	tr := tar.NewReader(r)
	first, err := tr.Next()
	if err != nil {
		return false, nil
	}
	x := &extractor{root: root, opts: opts, left: maxUnpacked}
	if err := root.MkdirAll(dest, 0o755, nil); err != nil {
		return true, err
	}
	if x.root, err = root.Sub(dest); err != nil {
		return true, err
	}
	defer x.root.Close()
	if err := x.all(ctx, tr, first); err != nil {
		return true, fmt.Errorf("unpack %s: %w", src, err)
	}
	return true, nil
}

// Unpack extracts a tar archive, plain or compressed, into a directory. What is
// no archive is left unread.
func Unpack(ctx context.Context, in *bufio.Reader, dir string) (bool, error) {
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if !archived(head) {
		return false, nil
	}
	r, err := image.Decompress(in)
	if err != nil {
		return true, err
	}
	defer r.Close()
	root, err := inroot.Open(dir)
	if err != nil {
		return true, err
	}
	defer root.Close()
	tr := tar.NewReader(r)
	first, err := tr.Next()
	if err != nil {
		return true, err
	}
	return true, (&extractor{root: root, left: maxUnpacked}).all(ctx, tr, first)
}

// archived says whether these are the first bytes of an archive: of a tar, or
// of something compressed.
func archived(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return len(head) > 262 && string(head[257:262]) == "ustar"
}

type extractor struct {
	root *inroot.Root
	opts copyin.Options
	left int64
}

func (x *extractor) all(ctx context.Context, tr *tar.Reader, h *tar.Header) error {
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n > maxEntries {
			return fmt.Errorf("more than %d entries", maxEntries)
		}
		if err := x.entry(tr, h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		var err error
		if h, err = tr.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (x *extractor) entry(r io.Reader, h *tar.Header) error {
	for _, part := range strings.Split(h.Name, "/") {
		if part == ".." {
			return errors.New("leads out of the archive")
		}
	}
	p := scan.Clean(h.Name)
	if p == "" {
		return nil
	}
	if err := x.root.MkdirAll(path.Dir(p), 0o755, nil); err != nil {
		return err
	}
	dir, base, err := x.root.Parent(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	if h.Typeflag != tar.TypeDir {
		if err := x.root.RemoveAll(p); err != nil {
			return err
		}
	}
	if err := x.make(r, h, int(dir.Fd()), base, p); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return nil
	}
	return x.attributes(h, int(dir.Fd()), base)
}

func (x *extractor) make(r io.Reader, h *tar.Header, at int, base, p string) error {
	switch h.Typeflag {
	case tar.TypeDir:
		st, err := x.root.Lstat(p)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		if err := x.root.RemoveAll(p); err != nil {
			return err
		}
		return unix.Mkdirat(at, base, 0o700)
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, at, base)
	case tar.TypeLink:
		dir, name, err := x.root.Parent(h.Linkname)
		if err != nil {
			return err
		}
		defer dir.Close()
		return unix.Linkat(int(dir.Fd()), name, at, base, 0)
	case tar.TypeFifo:
		return unix.Mknodat(at, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		kind := uint32(unix.S_IFCHR)
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		return unix.Mknodat(at, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(r, h, at, base)
	}
	return fmt.Errorf("entry of unknown type %q", h.Typeflag)
}

func (x *extractor) file(r io.Reader, h *tar.Header, at int, base string) error {
	if x.left -= h.Size; x.left < 0 {
		return fmt.Errorf("more than %d bytes unpacked", int64(maxUnpacked))
	}
	fd, err := unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, "SCHILY.xattr.")
		if !ok || !scan.ImageXattr(name) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(v), 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func (x *extractor) attributes(h *tar.Header, at int, base string) error {
	uid, gid := h.Uid, h.Gid
	if x.opts.UID != nil {
		uid = *x.opts.UID
	}
	if x.opts.GID != nil {
		gid = *x.opts.GID
	}
	if err := unix.Fchownat(at, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(at, base, uint32(h.Mode)&0o7777, 0); err != nil {
			return err
		}
	}
	when := unix.NsecToTimespec(h.ModTime.UnixNano())
	if x.opts.Time != nil {
		when = *x.opts.Time
	}
	return unix.UtimesNanoAt(at, base, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
}
