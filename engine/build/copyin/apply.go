package copyin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/store/inroot"
)

// Apply brings placements, in their order, into the tree below root.
func Apply(ctx context.Context, t scan.Tree, root *inroot.Root, places []Placement, o Options) error {
	w := &writer{tree: t, root: root, opts: o, links: make(map[inode]string)}
	defer w.close()
	for _, p := range places {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.put(p); err != nil {
			return fmt.Errorf("copy to /%s: %w", p.Dest, err)
		}
	}
	return w.finish()
}

type inode struct{ dev, ino uint64 }

type writer struct {
	tree  scan.Tree
	root  *inroot.Root
	opts  Options
	links map[inode]string // first place of a file that has several names
	times []stamped        // of directories: set last, since filling them changes them

	dirPath string
	dir     *os.File // the directory of the last placement, kept open
}

type stamped struct {
	path string
	when unix.Timespec
}

func (w *writer) close() {
	if w.dir != nil {
		w.dir.Close()
	}
}

// parent opens the directory of a destination; entries of one directory come
// one after another, so the last one is kept.
func (w *writer) parent(dest string) (*os.File, error) {
	d := path.Dir("/" + dest)
	if w.dir != nil && w.dirPath == d {
		return w.dir, nil
	}
	f, err := w.root.OpenFile(d, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	w.close()
	w.dir, w.dirPath = f, d
	return f, nil
}

func (w *writer) put(p Placement) error {
	if p.Dest == "" || p.Dest == "." {
		return w.rootItself(p)
	}
	dir, err := w.parent(p.Dest)
	if err != nil {
		return err
	}
	at, base := int(dir.Fd()), path.Base(p.Dest)
	var old unix.Stat_t
	err = unix.Fstatat(at, base, &old, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && err != unix.ENOENT {
		return err
	}
	exists, oldDir := err == nil, err == nil && old.Mode&unix.S_IFMT == unix.S_IFDIR
	if p.Entry.IsDir() {
		return w.putDir(p, at, base, exists, oldDir)
	}
	if exists {
		if oldDir && !w.opts.Replace {
			return errors.New("a directory is there; a file does not replace it")
		}
		if err := w.root.RemoveAll(p.Dest); err != nil {
			return err
		}
	}
	return w.putFile(p, at, base)
}

// rootItself takes the placement of a directory onto the root of the layer,
// which keeps its own mode and owner.
func (w *writer) rootItself(p Placement) error {
	if !p.Entry.IsDir() {
		return errors.New("the root directory is there")
	}
	return nil
}

func (w *writer) putDir(p Placement, at int, base string, exists, oldDir bool) error {
	if exists && !oldDir {
		if !w.opts.Replace {
			return errors.New("a file is there; a directory does not replace it")
		}
		if err := w.root.RemoveAll(p.Dest); err != nil {
			return err
		}
		exists = false
	}
	if exists && p.Keep {
		return nil
	}
	if !exists {
		if err := unix.Mkdirat(at, base, 0o700); err != nil {
			return err
		}
	}
	fd, err := unix.Openat(at, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := w.attributes(f, p.Entry); err != nil {
		return err
	}
	if !p.Above || w.opts.Time != nil {
		w.times = append(w.times, stamped{p.Dest, w.when(p.Entry)})
	}
	return nil
}

func (w *writer) putFile(p Placement, at int, base string) error {
	e := p.Entry
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return w.putRegular(p, at, base)
	case unix.S_IFLNK:
		if err := unix.Symlinkat(e.Link, at, base); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		if err := unix.Mknodat(at, base, w.mode(e), int(e.Rdev)); err != nil {
			return err
		}
		if err := unix.Fchmodat(at, base, w.mode(e)&0o7777, 0); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown file type %o", e.Mode)
	}
	uid, gid := w.owner(e)
	if err := unix.Fchownat(at, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	when := w.when(e)
	return unix.UtimesNanoAt(at, base, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
}

// putRegular copies a file, or links it to where another name of the same
// file was placed in this copy.
func (w *writer) putRegular(p Placement, at int, base string) error {
	e := p.Entry
	id := inode{e.Dev, e.Ino}
	if e.Nlink > 1 {
		if first, ok := w.links[id]; ok {
			return w.link(first, at, base)
		}
		w.links[id] = p.Dest
	}
	in, err := w.tree.Open(e.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	fd, err := unix.Openat(at, base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), base)
	defer out.Close()
	n, err := io.Copy(out, io.LimitReader(in, e.Size))
	if err != nil {
		return err
	}
	if n < e.Size {
		return fmt.Errorf("%s: %w", e.Path, scan.ErrChanged)
	}
	if err := w.verify(e, in, out); err != nil {
		return err
	}
	if err := w.attributes(out, e); err != nil {
		return err
	}
	when := w.when(e)
	return unix.UtimesNanoAt(at, base, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
}

// verify makes sure that what was copied of a living tree is what its digest
// says, which is in the cache's key.
func (w *writer) verify(e scan.Entry, in, out *os.File) error {
	t, living := w.tree.(interface {
		Unchanged(scan.Entry, *os.File) bool
	})
	if !living || t.Unchanged(e, in) {
		return nil
	}
	want, err := w.tree.Digest(e)
	if err != nil {
		return err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if got, _, err := scan.Hash(out); err != nil || got != want {
		return errors.Join(err, fmt.Errorf("%s: %w", e.Path, scan.ErrChanged))
	}
	return nil
}

func (w *writer) link(first string, at int, base string) error {
	dir, name, err := w.root.Parent(first)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Linkat(int(dir.Fd()), name, at, base, 0)
}

// attributes sets owner, then mode (chown clears the setuid bits), then the
// extended attributes (chown clears security.capability too).
func (w *writer) attributes(f *os.File, e scan.Entry) error {
	uid, gid := w.owner(e)
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), w.mode(e)&0o7777); err != nil {
		return err
	}
	for k, v := range e.Xattrs {
		if err := unix.Fsetxattr(int(f.Fd()), k, []byte(v), 0); err != nil && err != unix.ENOTSUP {
			return &fs.PathError{Op: "setxattr " + k, Path: e.Path, Err: err}
		}
	}
	return nil
}

func (w *writer) owner(e scan.Entry) (uid, gid int) {
	uid, gid = e.UID, e.GID
	if w.opts.UID != nil {
		uid = *w.opts.UID
	}
	if w.opts.GID != nil {
		gid = *w.opts.GID
	}
	return uid, gid
}

func (w *writer) mode(e scan.Entry) uint32 {
	switch {
	case w.opts.Change != nil:
		return w.opts.Change(e.Mode)
	case w.opts.Mode != nil:
		return e.Mode&unix.S_IFMT | *w.opts.Mode&0o7777
	}
	return e.Mode
}

func (w *writer) when(e scan.Entry) unix.Timespec {
	if w.opts.Time != nil {
		return *w.opts.Time
	}
	return e.MTime
}

// finish sets the directories' times, the innermost first.
func (w *writer) finish() error {
	for i := len(w.times) - 1; i >= 0; i-- {
		s := w.times[i]
		dir, base, err := w.root.Parent(s.path)
		if err != nil {
			return err
		}
		err = unix.UtimesNanoAt(int(dir.Fd()), base, []unix.Timespec{s.when, s.when}, unix.AT_SYMLINK_NOFOLLOW)
		dir.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
