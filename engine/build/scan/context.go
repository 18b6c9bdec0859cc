package scan

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"sync"
	"time"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store/inroot"
)

// A Context is a directory of the user's as a Tree: what .dockerignore
// excludes is not there, owners are 0:0, and sockets, FIFOs and devices are
// left out. Directories are read when they are first asked for, so that a
// build that copies one file does not walk node_modules.
type Context struct {
	root   *inroot.Root
	ignore *patternmatcher.PatternMatcher
	cache  *StatCache

	opened time.Time

	mu   sync.Mutex
	dirs map[string]*node

	known sync.Map // path -> digest: of each file once, however often a build asks
}

// ErrChanged means that a file of a context became another one while the build
// read it, so that what was copied is not what was digested.
var ErrChanged = errors.New("it changed while it was read; .dockerignore keeps such files out")

// A node is a directory that was read.
type node struct {
	entries []Entry
	match   map[string]patternmatcher.MatchInfo // by name, for the directories in entries and the excluded ones
	hidden  []Entry                             // excluded directories that a later ! pattern may reach into
}

// OpenContext opens the directory at dir with the given .dockerignore
// patterns. cache may be nil.
func OpenContext(dir string, exclude []string, cache *StatCache) (*Context, error) {
	root, err := inroot.Open(dir)
	if err != nil {
		return nil, err
	}
	pm, err := patternmatcher.New(exclude)
	if err != nil {
		root.Close()
		return nil, err
	}
	return &Context{root: root, ignore: pm, cache: cache, opened: time.Now(), dirs: make(map[string]*node)}, nil
}

// Close lets the directory go.
func (c *Context) Close() error { return c.root.Close() }

// Lstat implements Tree.
func (c *Context) Lstat(p string) (Entry, error) {
	p = Clean(p)
	if p == "" {
		st, err := c.root.Lstat("/")
		e := entry("", st)
		e.Mode = unix.S_IFDIR | e.Mode&0o7777
		return e, err
	}
	siblings, err := c.Children(parent(p))
	if err != nil {
		return Entry{}, err
	}
	i := sort.Search(len(siblings), func(i int) bool { return siblings[i].Path >= p })
	if i < len(siblings) && siblings[i].Path == p {
		return siblings[i], nil
	}
	return Entry{}, &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
}

// Children implements Tree.
func (c *Context) Children(p string) ([]Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.read(Clean(p))
	if err != nil {
		return nil, err
	}
	if len(n.hidden) == 0 {
		return n.entries, nil
	}
	return c.reveal(n)
}

// reveal adds the excluded directories that hold something a ! pattern brings
// back.
func (c *Context) reveal(n *node) ([]Entry, error) {
	all := append([]Entry(nil), n.entries...)
	for _, h := range n.hidden {
		holds, err := c.holds(h.Path)
		if err != nil {
			return nil, err
		}
		if holds {
			all = append(all, h)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	n.entries, n.hidden = all, nil
	return all, nil
}

func (c *Context) holds(p string) (bool, error) {
	n, err := c.read(p)
	if err != nil {
		return false, err
	}
	if len(n.entries) > 0 {
		return true, nil
	}
	for _, h := range n.hidden {
		if ok, err := c.holds(h.Path); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// read reads one directory and judges its entries.
func (c *Context) read(p string) (*node, error) {
	if n := c.dirs[p]; n != nil {
		return n, nil
	}
	up, err := c.parentMatch(p)
	if err != nil {
		return nil, err
	}
	entries, err := readDir(c.root, p)
	if err != nil {
		return nil, err
	}
	n := &node{match: make(map[string]patternmatcher.MatchInfo)}
	for _, e := range entries {
		e.UID, e.GID = 0, 0
		excluded, info, err := c.ignore.MatchesUsingParentResults(e.Path, up)
		if err != nil {
			return nil, err
		}
		if e.IsDir() {
			n.match[e.Name()] = info
		}
		switch {
		case !excluded:
			n.entries = append(n.entries, e)
		case e.IsDir() && c.ignore.Exclusions():
			n.hidden = append(n.hidden, e)
		}
	}
	c.dirs[p] = n
	return n, nil
}

func (c *Context) parentMatch(p string) (patternmatcher.MatchInfo, error) {
	if p == "" {
		return patternmatcher.MatchInfo{}, nil
	}
	n, err := c.read(parent(p))
	if err != nil {
		return patternmatcher.MatchInfo{}, err
	}
	info, ok := n.match[path.Base(p)]
	if !ok {
		return info, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return info, nil
}

// Open implements Tree. A file that is excluded is not there.
func (c *Context) Open(p string) (*os.File, error) {
	e, err := c.Lstat(p)
	if err != nil {
		return nil, err
	}
	if !e.IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrInvalid}
	}
	return c.root.OpenRegular(e.Path)
}

// Digest implements Tree, from the cache where the file's stat allows.
func (c *Context) Digest(e Entry) (string, error) {
	if d, ok := c.known.Load(e.Path); ok {
		return d.(string), nil
	}
	d, err := c.digest(e)
	if err == nil {
		c.known.Store(e.Path, d)
	}
	return d, err
}

// Unchanged says whether a file that was opened is, as far as stat(2) tells,
// the one that was digested. One that was written to since the context was
// opened, or a moment before, may have changed without a trace.
func (c *Context) Unchanged(e Entry, f *os.File) bool {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	racy := c.opened.Add(-tick).UnixNano()
	return stamp(entry(e.Path, st)) == stamp(e) && st.Mtim.Nano() < racy && st.Ctim.Nano() < racy
}

func (c *Context) digest(e Entry) (string, error) {
	if d, ok := c.cache.get(e); ok {
		return d, nil
	}
	begin := time.Now()
	f, err := c.root.OpenRegular(e.Path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	// As many bytes as there were when the directory was read: a log that
	// grows meanwhile counts as it was then.
	d, n, err := Hash(io.LimitReader(f, e.Size))
	if err == nil && n < e.Size {
		err = fmt.Errorf("%s: %w", e.Path, ErrChanged)
	}
	if err != nil {
		return "", err
	}
	c.cache.put(e, f, d, begin)
	return d, nil
}

// readDir lists a directory's entries by name, without what has no place in a
// context: sockets, FIFOs and devices.
func readDir(root *inroot.Root, p string) ([]Entry, error) {
	d, err := root.OpenFile(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	entries := make([]Entry, 0, len(names))
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue // deleted since the names were read
		}
		if err != nil {
			return nil, &fs.PathError{Op: "lstat", Path: path.Join(p, name), Err: err}
		}
		e := entry(path.Join(p, name), st)
		switch e.Mode & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFDIR:
		case unix.S_IFLNK:
			if e.Link, err = inroot.ReadlinkAt(d, name); err != nil {
				return nil, err
			}
		default:
			continue
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func entry(p string, st unix.Stat_t) Entry {
	return Entry{Path: p, Mode: st.Mode, UID: int(st.Uid), GID: int(st.Gid), Size: st.Size, Rdev: st.Rdev,
		Ino: st.Ino, Dev: st.Dev, Nlink: st.Nlink, MTime: st.Mtim, CTime: st.Ctim}
}
