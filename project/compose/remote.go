package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// A Fetched is what a remote address stands for, brought to this host.
type Fetched struct {
	// File is the compose file, or the directory that has one of the usual
	// name; absolute.
	File string
	// Root holds all that came with it. No path in a file below it may lead
	// out of it, and no symbolic link in it does.
	Root string
}

// A Fetch brings what a remote address names to this host, or says why not as
// a project.Error.
type Fetch func(ctx context.Context, address string) (Fetched, error)

// remoteKind says what kind of remote resource a path names; empty for a
// local file.
func remoteKind(path string) string {
	switch {
	case strings.HasPrefix(path, "oci://"):
		return "OCI artefact"
	case strings.HasPrefix(path, "git://"), strings.HasPrefix(path, "git@"), strings.HasPrefix(path, "ssh://"),
		strings.HasPrefix(path, "github.com/"), strings.HasPrefix(path, "http://"), strings.HasPrefix(path, "https://"):
		return "git repository or URL"
	}
	return ""
}

// Refused is the answer to a remote compose file that nobody has allowed: what
// others can change must not decide, unasked, what runs here (CVE-2025-62725).
func Refused(address, fix string) *project.Error {
	return &project.Error{
		What: fmt.Sprintf("%q is a remote compose file (%s), and those are refused", address, remoteKind(address)),
		Fix:  fix,
	}
}

// remotes are what one load has fetched. It is the loader's resource loader
// for everything that is not local: what the files name has been fetched, or
// refused, by the time it is asked.
type remotes struct {
	fetch func(address string) (Fetched, error)
	got   map[string]Fetched
}

func newRemotes(ctx context.Context, fetch Fetch) *remotes {
	r := &remotes{got: map[string]Fetched{}}
	r.fetch = func(address string) (Fetched, error) {
		if fetch == nil {
			return Fetched{}, Refused(address, "fetch it yourself, look at it, and name the local copy")
		}
		return fetch(ctx, address)
	}
	return r
}

// get fetches an address once, and finds the compose file there.
func (r *remotes) get(address string) (Fetched, error) {
	if f, ok := r.got[address]; ok {
		return f, nil
	}
	f, err := r.fetch(address)
	if err != nil {
		return f, err
	}
	if found := present(f.File, fileNames); len(found) > 0 {
		f.File = found[0]
	}
	if f.File, err = filepath.EvalSymlinks(f.File); err != nil {
		return f, &project.Error{What: fmt.Sprintf("%q has no such file", address), Fix: "correct what stands after # and :"}
	}
	if root, err := filepath.EvalSymlinks(f.Root); err != nil || !below(root, f.File) {
		return f, &project.Error{What: fmt.Sprintf("%q leads out of what was fetched", address)}
	}
	r.got[address] = f
	return f, nil
}

// root is the directory of what was fetched that holds a path; empty for a
// local one.
func (r *remotes) root(path string) string {
	for _, f := range r.got {
		if below(f.Root, path) {
			return f.Root
		}
	}
	return ""
}

// name is a path as the address that it came from; empty for a local one.
func (r *remotes) name(path string) string {
	for _, address := range slices.Sorted(maps.Keys(r.got)) {
		f := r.got[address]
		if path == f.File {
			return address
		}
	}
	for _, address := range slices.Sorted(maps.Keys(r.got)) {
		if rel, err := filepath.Rel(r.got[address].Root, path); err == nil && filepath.IsLocal(rel) {
			return address + "/" + rel
		}
	}
	return ""
}

// below says whether a path is dir or in it, as written: the links in what was
// fetched have been looked at.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// Accept takes what is remote.
func (r *remotes) Accept(path string) bool { return remoteKind(path) != "" }

// Load is the local copy.
func (r *remotes) Load(_ context.Context, path string) (string, error) {
	f, err := r.get(path)
	return f.File, err
}

// Dir is where the relative paths of a copy, or of what it was made of, start.
func (r *remotes) Dir(path string) string {
	if f, ok := r.got[path]; ok {
		path = f.File
	}
	return filepath.Dir(path)
}

// remote fetches what a file names at n; not ok when that was wrong. What the
// caller's variables hold must not reach another host as part of an address.
func (t *tree) remote(f *source.File, n *yaml.Node, key, address string) (path string, ok bool) {
	if strings.Contains(resolve(n).Value, "$") {
		t.wrong(f, n, key, "write the address out", "a remote address may not have variables in it")
		return "", false
	}
	got, err := t.remotes.get(address)
	if err == nil {
		return got.File, true
	}
	what, fix := err.Error(), ""
	if e := (*project.Error)(nil); errors.As(err, &e) {
		what, fix = e.What, e.Fix
	}
	t.wrong(f, n, key, fix, "%s", what)
	return "", false
}

// inside says whether a file may name a local path: that of a remote one has
// to stay with what came with it, or in the directory that a local file gave
// it.
func (t *tree) inside(f *source.File, n *yaml.Node, key, path string) bool {
	if t.remotes.root(f.Path) == "" || t.remotes.root(path) != "" || t.given(f) && below(f.Dir, path) {
		return true
	}
	t.wrong(f, n, key, "", "a remote compose file may not read %s of this host", path)
	return false
}

// given says whether a remote file's relative paths start at a directory that
// somebody on this host chose.
func (t *tree) given(f *source.File) bool { return t.remotes.root(f.Dir) == "" }
