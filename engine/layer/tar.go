package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/inroot"
)

// TarOptions say how a tar is made from a directory.
type TarOptions struct {
	// Epoch clamps every modification time to at most this (SOURCE_DATE_EPOCH);
	// the zero time leaves them.
	Epoch time.Time
	// Plain writes a file system as it is: whiteouts and opaque marks are left
	// out, not turned into .wh. names. For exporting a container's merged root.
	Plain bool
	// Followed is the name of an entry whose links have been followed: a link
	// found there came in since, and is refused with ELOOP. Empty: none.
	Followed string
	// Skip leaves a path out, with what is below it; nil: none is.
	Skip func(name string) bool
}

// Tar writes a layer as the tar it came from, byte for byte, or, for one
// that davit made, as a tar in a reproducible order. Content that no longer
// has the recorded digest is an error.
func (s *Store) Tar(ctx context.Context, id string, w io.Writer) error {
	m, err := s.Meta(id)
	if err != nil {
		return err
	}
	err = s.rebuild(ctx, m, w)
	if errors.Is(err, unix.ENOENT) {
		err = TarDir(ctx, s.FS(id), w, TarOptions{})
	}
	if err != nil {
		return fmt.Errorf("write layer %s: %w", id, err)
	}
	return nil
}

// Verify holds a layer's files against its digest. One that was made here and
// never digested has nothing but its record to be held against.
func (s *Store) Verify(ctx context.Context, id string) error {
	m, err := s.Meta(id)
	if err != nil || m.DiffID == "" {
		return err
	}
	if s.HasRecipe(id) || m.DiffID == m.ID {
		// Without a recipe, a layer that came as an archive cannot give back
		// the same bytes: it is only read.
		return s.Tar(ctx, id, io.Discard)
	}
	sum := &counter{Hash: sha256.New()}
	if err := TarDir(ctx, s.FS(id), sum, TarOptions{}); err != nil {
		return fmt.Errorf("digest layer %s: %w", id, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != m.DiffID {
		return fmt.Errorf("layer %s: its files changed since they were digested: sha256:%s is now %s", id, m.DiffID, got)
	}
	return nil
}

// HasRecipe tells whether Tar gives back the very bytes that were unpacked.
func (s *Store) HasRecipe(id string) bool {
	var st unix.Stat_t
	return ValidID(id) && unix.Lstat(s.recipePath(id), &st) == nil
}

func (s *Store) recipePath(id string) string { return filepath.Join(s.layout.Layer(id), "recipe") }

// Digest returns a layer's record with DiffID and TarSize as Tar would write
// it, found out once for a layer that davit made.
func (s *Store) Digest(ctx context.Context, id string) (Meta, error) {
	m, err := s.Meta(id)
	if err != nil || m.DiffID != "" && (m.DiffID != m.ID || s.HasRecipe(id)) {
		return m, err
	}
	sum := &counter{Hash: sha256.New()}
	if err := TarDir(ctx, s.FS(id), sum, TarOptions{}); err != nil {
		return m, fmt.Errorf("digest layer %s: %w", id, err)
	}
	m.DiffID, m.TarSize = hex.EncodeToString(sum.Sum(nil)), sum.n
	return m, store.WriteUnsynced(s.metaPath(id), m)
}

type counter struct {
	hash.Hash
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.Hash.Write(b)
}

// rebuild follows the recipe; unix.ENOENT means that there is none, and that
// nothing was written.
func (s *Store) rebuild(ctx context.Context, m Meta, w io.Writer) error {
	if !s.HasRecipe(m.ID) {
		return unix.ENOENT
	}
	t, err := openTree(s.FS(m.ID))
	if err != nil {
		return err
	}
	defer t.close()
	sum := sha256.New()
	buf := make([]byte, 256<<10)
	out := io.MultiWriter(sum, w)
	err = replay(s.recipePath(m.ID), out, func(p string, size int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		fd, err := t.open(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
		if err != nil {
			return fmt.Errorf("file %q changed since it was unpacked: %v", p, err)
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Size != size {
			return fmt.Errorf("file %q changed since it was unpacked: it has %d bytes, not %d", p, st.Size, size)
		}
		return copyOut(out, fd, p, size, buf)
	})
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != m.DiffID {
		return fmt.Errorf("its files changed since it was unpacked: digest is now %s", got)
	}
	return nil
}

// copyOut copies exactly size bytes of a file.
func copyOut(w io.Writer, fd int, name string, size int64, buf []byte) error {
	for size > 0 {
		n, err := unix.Read(fd, buf[:min(size, int64(len(buf)))])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %q: %w", name, err)
		}
		if n == 0 {
			return fmt.Errorf("file %q became shorter while it was read", name)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// TarDir writes the directory dir as a layer's tar: names in sorted order,
// parents first, overlayfs' whiteouts as .wh. names. It holds on to
// descriptors all the way, so a directory that somebody is changing (a running
// container's) can at worst give odd content, never files from elsewhere.
func TarDir(ctx context.Context, dir string, w io.Writer, o TarOptions) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	p := newPacker(ctx, w, o)
	if err := p.dir(fd, ""); err != nil {
		return err
	}
	return p.close()
}

type packer struct {
	ctx   context.Context
	out   *bufio.Writer
	tar   *tar.Writer
	o     TarOptions
	links map[inode]string
	buf   []byte
}

func newPacker(ctx context.Context, w io.Writer, o TarOptions) *packer {
	p := &packer{ctx: ctx, out: bufio.NewWriterSize(w, 256<<10), o: o, links: map[inode]string{}, buf: make([]byte, 256<<10)}
	p.tar = tar.NewWriter(p.out)
	return p
}

// close ends the archive.
func (p *packer) close() error {
	if err := p.tar.Close(); err != nil {
		return err
	}
	return p.out.Flush()
}

func (p *packer) dir(fd int, name string) error {
	names, err := inroot.Names(fd)
	if err != nil {
		return fmt.Errorf("read directory %q: %w", name, err)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		if err := p.one(fd, n, path.Join(name, n)); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) one(parent int, base, name string) error {
	if p.o.Skip != nil && p.o.Skip(name) {
		return nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil // removed meanwhile
	}
	if err != nil {
		return fmt.Errorf("stat %q: %w", name, err)
	}
	if isWhiteout(&st) {
		return p.whiteout(name)
	}
	h := header(name, &st, p.o.Epoch)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.directory(parent, base, h)
	case unix.S_IFREG:
		return p.regular(parent, base, h, &st)
	case unix.S_IFLNK:
		return p.symlink(parent, base, h)
	case unix.S_IFSOCK:
		return nil // tar has no sockets
	}
	if p.linked(h, &st) {
		h.Typeflag = tar.TypeLink
	}
	return p.write(h)
}

func (p *packer) whiteout(name string) error {
	if p.o.Plain {
		return nil
	}
	dir, base := path.Split(name)
	return p.write(&tar.Header{Typeflag: tar.TypeReg, Name: dir + whPrefix + base, Mode: 0o600, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
}

// header is what stat says, in tar's words. Times are whole seconds: finer
// ones need a PAX record for every file.
func header(name string, st *unix.Stat_t, epoch time.Time) *tar.Header {
	t := time.Unix(st.Mtim.Sec, 0)
	if !epoch.IsZero() && t.After(epoch) {
		t = epoch.Truncate(time.Second)
	}
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: t, Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	return h
}

// linked tells whether an earlier entry is the same file, and names it.
func (p *packer) linked(h *tar.Header, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	ino := inode{uint64(st.Dev), st.Ino}
	if first, ok := p.links[ino]; ok {
		h.Linkname = first
		return true
	}
	p.links[ino] = h.Name
	return false
}

func (p *packer) directory(parent int, base string, h *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", h.Name, err)
	}
	defer unix.Close(fd)
	opaque, err := xattrs(fd, h)
	if err != nil {
		return err
	}
	if err := p.write(h); err != nil {
		return err
	}
	if opaque && !p.o.Plain {
		// path.Split in whiteout adds the first of the two .wh. prefixes.
		if err := p.whiteout(h.Name + whPrefix + ".opq"); err != nil {
			return err
		}
	}
	return p.dir(fd, path.Clean(h.Name))
}

func (p *packer) regular(parent int, base string, h *tar.Header, st *unix.Stat_t) error {
	if p.linked(h, st) {
		h.Typeflag, h.Size = tar.TypeLink, 0
		return p.write(h)
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", h.Name, err)
	}
	defer unix.Close(fd)
	if _, err := xattrs(fd, h); err != nil {
		return err
	}
	if err := p.write(h); err != nil {
		return err
	}
	return copyOut(p.tar, fd, h.Name, h.Size, p.buf)
}

func (p *packer) symlink(parent int, base string, h *tar.Header) error {
	if h.Name == p.o.Followed {
		return fmt.Errorf("read %q: %w", h.Name, unix.ELOOP)
	}
	buf := make([]byte, maxPath+1)
	n, err := unix.Readlinkat(parent, base, buf)
	if err != nil {
		return fmt.Errorf("read link %q: %w", h.Name, err)
	}
	h.Linkname = string(buf[:n])
	return p.write(h)
}

func (p *packer) write(h *tar.Header) error {
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("entry %q: %w", h.Name, err)
	}
	return nil
}
