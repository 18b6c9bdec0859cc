package copyin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/store/inroot"
)

// Options are what COPY and ADD say beyond source and destination.
type Options struct {
	UID, GID *int            // --chown; nil: the source's own
	Mode     *uint32         // --chmod as a number; nil: the source's own
	Change   func(Mode) Mode // --chmod in symbols, over the source's own
	Time     *unix.Timespec  // of everything copied; nil: the source's own
	Include  []string
	Exclude  []string
	Contents bool // a directory's content is copied, not the directory
	Follow   bool // a link as the source is followed
	MakeDest bool // make missing directories above the destination
	Replace  bool // an existing path of another type is replaced
}

// A Mode is a file's st_mode: type and permissions.
type Mode = uint32

// A Placement is one entry that goes to one path.
type Placement struct {
	Dest   string // slash-separated, below the root of the layer; no link in it but a last one, which is replaced
	Entry  scan.Entry
	Digest string // sha256 of a regular file's content
	// Keep leaves an existing directory's owner and mode alone.
	Keep bool
	// Above is set for directories that are made to reach the destination.
	Above bool
}

// Plan decides where every entry that src selects goes. root is the tree as it
// is before the copy; nothing is changed.
func Plan(t scan.Tree, src string, root *inroot.Root, dest string, o Options) ([]Placement, error) {
	from, err := scan.Resolve(t, src, o.Follow)
	if err != nil {
		return nil, notFound(src, err)
	}
	e, err := t.Lstat(from)
	if err != nil {
		return nil, notFound(src, err)
	}
	p := &planner{tree: t, root: root, opts: o}
	if err := p.filters(); err != nil {
		return nil, err
	}
	to, err := p.target(e, path.Base("/"+scan.Clean(src)), dest)
	if err != nil {
		return nil, err
	}
	none := patternmatcher.MatchInfo{}
	if err := p.place(e, "", to, true, none, none); err != nil {
		return nil, err
	}
	return p.out, nil
}

// Select returns the entries that a copy of src takes, placed as if into an
// empty directory: what a cache key is made of.
func Select(t scan.Tree, src string, o Options) ([]Placement, error) {
	from, err := scan.Resolve(t, src, o.Follow)
	if err != nil {
		return nil, notFound(src, err)
	}
	e, err := t.Lstat(from)
	if err != nil {
		return nil, notFound(src, err)
	}
	p := &planner{tree: t, opts: o}
	if err := p.filters(); err != nil {
		return nil, err
	}
	none := patternmatcher.MatchInfo{}
	err = p.place(e, "", path.Base("/"+scan.Clean(src)), true, none, none)
	return p.out, err
}

func notFound(src string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q: not found: %w", "/"+scan.Clean(src), fs.ErrNotExist)
	}
	return err
}

type planner struct {
	tree    scan.Tree
	root    *inroot.Root
	opts    Options
	include *patternmatcher.PatternMatcher
	exclude *patternmatcher.PatternMatcher
	waiting []Placement // directories that appear once something below them is included
	out     []Placement
}

func (p *planner) filters() (err error) {
	if len(p.opts.Include) > 0 {
		if p.include, err = patternmatcher.New(p.opts.Include); err != nil {
			return err
		}
	}
	if len(p.opts.Exclude) > 0 {
		p.exclude, err = patternmatcher.New(p.opts.Exclude)
	}
	return err
}

// target is where the source itself goes, as cp has it: below the destination
// when that is a directory, and also below one that a trailing slash announces.
func (p *planner) target(e scan.Entry, name, dest string) (string, error) {
	slash := len(dest) > 0 && dest[len(dest)-1] == '/'
	at, exists, isDir, err := p.resolveDest(dest)
	if err != nil {
		return "", err
	}
	into := exists && isDir || slash && !exists
	switch {
	case e.IsDir() && p.opts.Contents:
	case e.IsDir() && exists, !e.IsDir() && into:
		at = path.Join(at, name)
	}
	above := path.Dir(at)
	if e.IsDir() && p.opts.Contents && !exists {
		above = path.Dir(at)
	}
	return at, p.above(above)
}

// resolveDest follows the links of the destination inside the layer.
func (p *planner) resolveDest(dest string) (at string, exists, isDir bool, err error) {
	at, err = scan.Resolve(rootTree{p.root}, dest, true)
	if errors.Is(err, fs.ErrNotExist) {
		at, err = resolveMissing(rootTree{p.root}, dest)
		return at, false, false, err
	}
	if err != nil {
		return "", false, false, err
	}
	st, err := p.root.Lstat(at)
	return at, err == nil, err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// resolveMissing resolves as much of a path as exists, and appends the rest.
func resolveMissing(t scan.Tree, dest string) (string, error) {
	dest = scan.Clean(dest)
	if dest == "" {
		return "", nil
	}
	dir, base := path.Split(dest)
	at, err := scan.Resolve(t, dir, true)
	if errors.Is(err, fs.ErrNotExist) {
		at, err = resolveMissing(t, dir)
	}
	return path.Join(at, base), err
}

// above plans the directories that are missing on the way to the destination.
func (p *planner) above(dir string) error {
	if dir == "." || dir == "" || dir == "/" {
		return nil
	}
	st, err := p.root.Lstat(dir)
	switch {
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &fs.PathError{Op: "copy", Path: "/" + dir, Err: unix.ENOTDIR}
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !p.opts.MakeDest:
		return &fs.PathError{Op: "copy", Path: "/" + dir, Err: fs.ErrNotExist}
	}
	if err := p.above(path.Dir(dir)); err != nil {
		return err
	}
	p.out = append(p.out, Placement{Dest: dir, Entry: scan.Entry{Mode: unix.S_IFDIR | 0o755}, Above: true, Keep: true})
	return nil
}

func (p *planner) place(e scan.Entry, rel, dest string, top bool, inc, exc patternmatcher.MatchInfo) error {
	included, excluded := true, false
	var err error
	if rel != "" && p.include != nil {
		if included, inc, err = p.include.MatchesUsingParentResults(rel, inc); err != nil {
			return err
		}
	}
	if rel != "" && p.exclude != nil {
		if excluded, exc, err = p.exclude.MatchesUsingParentResults(rel, exc); err != nil {
			return err
		}
		included = included && !excluded
	}
	here := Placement{Dest: dest, Entry: e, Keep: top && e.IsDir()}
	if included {
		p.out = append(append(p.out, p.waiting...), here)
		p.waiting = nil
	}
	if !e.IsDir() || excluded && !p.exclude.Exclusions() {
		return nil
	}
	return p.placeChildren(here, rel, included, inc, exc)
}

func (p *planner) placeChildren(here Placement, rel string, included bool, inc, exc patternmatcher.MatchInfo) error {
	mark := len(p.waiting)
	if !included {
		p.waiting = append(p.waiting, here)
	}
	children, err := p.tree.Children(here.Entry.Path)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := p.place(c, path.Join(rel, c.Name()), path.Join(here.Dest, c.Name()), false, inc, exc); err != nil {
			return err
		}
	}
	if len(p.waiting) > mark {
		p.waiting = p.waiting[:mark]
	}
	return nil
}

// rootTree lets links be resolved in a layer as they are in a source.
type rootTree struct{ *inroot.Root }

func (r rootTree) Lstat(p string) (scan.Entry, error) {
	st, err := r.Root.Lstat(p)
	e := scan.Entry{Path: p, Mode: st.Mode}
	if err == nil && e.IsLink() {
		e.Link, err = r.Readlink(p)
	}
	return e, err
}

func (r rootTree) Children(string) ([]scan.Entry, error) { return nil, fs.ErrInvalid }
func (r rootTree) Digest(scan.Entry) (string, error)     { return "", fs.ErrInvalid }
func (r rootTree) Open(p string) (*os.File, error) {
	return r.OpenRegular(p)
}
