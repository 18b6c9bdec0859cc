package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store/inroot"
)

// A Spot is a path below a root: one end of a copy.
type Spot struct {
	Root *inroot.Root
	Path string // as it was written: a / or /. at its end counts
}

// CopyOptions vary a copy.
type CopyOptions struct {
	Follow bool         // a link as the source means what it points to
	Owner  *layer.Owner // of what is made; nil: that of the source
	// NoDevices refuses device nodes: for what comes out of a container.
	NoDevices bool
}

// maxLinks is how many links a path may go through, as with Linux.
const maxLinks = 40

// Copy copies a file or a tree by the rules of docker cp: a directory goes
// into one that is there under its own name, with /. behind it its content
// does; where nothing is, it takes the name given.
func Copy(ctx context.Context, from, to Spot, o CopyOptions) error {
	src, err := from.source(o.Follow)
	if err != nil {
		return err
	}
	dir, name, err := to.destination(src)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := src.pack(ctx, name, w)
		w.CloseWithError(err)
		packed <- err
	}()
	err = to.extract(ctx, r, dir, o)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if perr := <-packed; perr != nil && (err == nil || errors.Is(err, perr)) {
		return fmt.Errorf("read %s: %w", from.Path, perr)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", to.Path, err)
	}
	return nil
}

// CopyOut writes a file or a tree as a tar.
func CopyOut(ctx context.Context, from Spot, o CopyOptions, w io.Writer) error {
	src, err := from.source(o.Follow)
	if err != nil {
		return err
	}
	return src.pack(ctx, src.name, w)
}

// CopyIn unpacks a tar, compressed or not, in a directory that is there.
func CopyIn(ctx context.Context, r io.Reader, to Spot, o CopyOptions) error {
	st, err := to.Root.Stat(to.Path)
	if err != nil {
		return told(err, to.Path)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s: not a directory: an archive is unpacked in one", to.Path)
	}
	plain, err := image.Decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	return to.extract(ctx, plain, to.Path, o)
}

// A source is what is copied: the entry name of an open directory, or all that
// is in it.
type source struct {
	dir   *os.File
	name  string // in dir, and in the archive
	whole bool   // the content of dir
	isDir bool
	found bool // links have been followed to it
}

func (s source) pack(ctx context.Context, name string, w io.Writer) error {
	defer s.dir.Close()
	base := s.name
	if s.whole {
		base = ""
	}
	o := layer.TarOptions{Plain: true}
	if s.found {
		o.Followed = name
	}
	return layer.TarAt(ctx, s.dir, base, name, w, o)
}

func (p Spot) source(follow bool) (source, error) {
	at := p.Path
	last := path.Base(at)
	content := last == "." || path.Clean("/"+at) == "/"
	follow = follow || content || strings.HasSuffix(at, "/")
	if follow {
		var err error
		if at, err = resolve(p.Root, at); err != nil {
			return source{}, told(err, p.Path)
		}
	}
	st, err := p.Root.Lstat(at)
	if err != nil {
		return source{}, told(err, p.Path)
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if content {
		dir, err := p.Root.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
		return source{dir: dir, whole: true, isDir: true}, told(err, p.Path)
	}
	if strings.HasSuffix(p.Path, "/") && !isDir {
		return source{}, fmt.Errorf("%s: not a directory", p.Path)
	}
	dir, name, err := p.Root.Parent(at)
	return source{dir: dir, name: name, isDir: isDir, found: follow}, told(err, p.Path)
}

// destination tells in which directory the source goes, and under which name.
func (p Spot) destination(s source) (dir, name string, err error) {
	at, err := resolve(p.Root, p.Path)
	if err != nil {
		return "", "", told(err, p.Path)
	}
	st, err := p.Root.Stat(at)
	there := err == nil
	isDir := there && st.Mode&unix.S_IFMT == unix.S_IFDIR
	slash := strings.HasSuffix(p.Path, "/") || path.Base(p.Path) == "."
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", "", told(err, p.Path)
	case isDir && s.whole:
		return at, "", nil
	case isDir:
		return at, s.name, nil
	case there && s.isDir:
		return "", "", fmt.Errorf("%s: cannot copy a directory to a file", p.Path)
	case there && slash:
		return "", "", fmt.Errorf("%s: not a directory", p.Path)
	case !there && slash && !s.isDir:
		return "", "", fmt.Errorf("%s: no such directory", p.Path)
	}
	dir, name = path.Split(path.Clean("/" + at))
	if st, err := p.Root.Stat(dir); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", "", fmt.Errorf("%s: no such directory", dir)
	}
	if s.whole && !there {
		// The content's directory is made as it is not part of the archive.
		return at, "", p.Root.MkdirAll(at, 0o755, nil)
	}
	return dir, name, nil
}

func (p Spot) extract(ctx context.Context, r io.Reader, dir string, o CopyOptions) error {
	root, err := p.Root.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	return layer.Extract(ctx, r, root, layer.ExtractOptions{Dir: dir, Owner: o.Owner, NoDevices: o.NoDevices})
}

// resolve follows the links at the end of a path; what is missing there stays
// as it is. Between this and the use of the path somebody may change it: both
// stay inside the root.
func resolve(root *inroot.Root, p string) (string, error) {
	p = path.Clean("/" + p)
	for range maxLinks {
		if p == "/" {
			return p, nil
		}
		st, err := root.Lstat(p)
		if errors.Is(err, os.ErrNotExist) {
			return p, nil
		}
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
			return p, err
		}
		target, err := root.Readlink(p)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(p), target)
		}
		p = path.Clean(target)
	}
	return "", &os.PathError{Op: "open", Path: p, Err: unix.ELOOP}
}

// told is an error about a path in the words of who wrote it.
func told(err error, p string) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", p, pe.Err)
	}
	return err
}
