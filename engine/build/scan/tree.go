package scan

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// An Entry is one file, directory or link of a Tree.
type Entry struct {
	Path   string // slash-separated, below the tree's root; the root is ""
	Mode   uint32 // st_mode: type and permissions
	UID    int
	GID    int
	Size   int64
	Link   string // where a symbolic link points
	Rdev   uint64
	Ino    uint64
	Dev    uint64
	Nlink  uint64
	MTime  unix.Timespec
	CTime  unix.Timespec
	Xattrs map[string]string
}

// IsDir says whether the entry is a directory.
func (e Entry) IsDir() bool { return e.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular says whether the entry is a file with content.
func (e Entry) IsRegular() bool { return e.Mode&unix.S_IFMT == unix.S_IFREG }

// IsLink says whether the entry is a symbolic link.
func (e Entry) IsLink() bool { return e.Mode&unix.S_IFMT == unix.S_IFLNK }

// Name is the last element of the entry's path.
func (e Entry) Name() string { return path.Base("/" + e.Path) }

// A Tree is what a build step may read: only the entries it shows exist. A
// consumer never goes round it to the directory behind, where files lie that
// .dockerignore excludes.
type Tree interface {
	// Lstat tells of the entry at a path without links in it.
	Lstat(p string) (Entry, error)
	// Children are a directory's entries, by name.
	Children(p string) ([]Entry, error)
	// Open opens a regular file's content.
	Open(p string) (*os.File, error)
	// Digest is the sha256 of a regular file's content, in hex.
	Digest(e Entry) (string, error)
}

// maxLinks bounds the links followed in one path, as the kernel's 40 does.
const maxLinks = 40

// Resolve returns the path that p leads to when links are followed as a
// process chrooted to the tree would follow them; the last element only if
// last is set. What does not exist is fs.ErrNotExist.
func Resolve(t Tree, p string, last bool) (string, error) {
	done, left, links := "", split(p), 0
	for len(left) > 0 {
		name := left[0]
		left = left[1:]
		if name == ".." {
			done = parent(done)
			continue
		}
		at := path.Join(done, name)
		e, err := t.Lstat(at)
		if err != nil {
			return "", err
		}
		if !e.IsLink() || (len(left) == 0 && !last) {
			done = at
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: unix.ELOOP}
		}
		if strings.HasPrefix(e.Link, "/") {
			done = ""
		}
		left = append(split(e.Link), left...)
	}
	return done, nil
}

func split(p string) []string {
	var parts []string
	for _, s := range strings.Split(p, "/") {
		if s != "" && s != "." {
			parts = append(parts, s)
		}
	}
	return parts
}

func parent(p string) string {
	d := path.Dir(p)
	if d == "." || d == "/" {
		return ""
	}
	return d
}

// Clean brings a path into the form that trees use: no leading slash, no dots,
// the root empty.
func Clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

// Walk calls each for the entry at p and all below it, parents before
// children, in the order of their names.
func Walk(t Tree, p string, each func(Entry) error) error {
	e, err := t.Lstat(p)
	if err != nil {
		return err
	}
	return walk(t, e, each)
}

func walk(t Tree, e Entry, each func(Entry) error) error {
	if err := each(e); err != nil || !e.IsDir() {
		return err
	}
	children, err := t.Children(e.Path)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := walk(t, c, each); err != nil {
			return err
		}
	}
	return nil
}

// Glob returns the paths that a pattern of path.Match form matches, element by
// element, sorted; a pattern without meta characters is returned as it is when
// it exists. Links before the first meta character are followed.
func Glob(t Tree, pattern string, follow bool) ([]string, error) {
	parts := split(path.Clean("/" + pattern))
	n := 0
	for n < len(parts) && !hasMeta(parts[n]) {
		n++
	}
	base, err := Resolve(t, strings.Join(parts[:n], "/"), follow || n < len(parts))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return glob(t, base, parts[n:])
}

func glob(t Tree, dir string, parts []string) ([]string, error) {
	if len(parts) == 0 {
		return []string{dir}, nil
	}
	e, err := t.Lstat(dir)
	if err != nil || !e.IsDir() {
		return nil, err
	}
	children, err := t.Children(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, c := range children {
		ok, err := path.Match(parts[0], c.Name())
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		more, err := glob(t, c.Path, parts[1:])
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

func hasMeta(s string) bool { return strings.ContainsAny(s, `*?[\`) }
