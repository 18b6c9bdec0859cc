package ops

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/git"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/inroot"
)

// A gitOp is a repository at one commit. Which commit counts, and which part
// of it is taken.
type gitOp struct {
	host  *Host
	id    string // host/path[#ref[:subdir]]
	attrs map[string]string
}

func (o *gitOp) Key() (string, error)                  { return "", nil }
func (o *gitOp) Inputs([]Snapshot) ([]InputKey, error) { return nil, nil }

// Run implements Op.
func (o *gitOp) Run(ctx context.Context, _ []Snapshot, _ Output) ([]Snapshot, error) {
	remote, ref, subdir, err := o.where()
	if err != nil {
		return nil, err
	}
	r := git.Repository{URL: remote, SSHAgent: o.host.SSH[o.attrs[pb.AttrMountSSHSock]]}
	commit, err := r.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if want := o.attrs[pb.AttrGitChecksum]; want != "" && !strings.HasPrefix(commit, want) {
		return nil, fmt.Errorf("git %s: %s is at commit %s, not %s", remote, ref, commit, want)
	}
	key := Hash("git", remote, commit, subdir, fmt.Sprint(o.keep()))
	record := filepath.Join(o.host.CacheDir, "git", key)
	var id string
	if store.Read(record, &id) == nil && o.host.Layers.Has(id) {
		return []Snapshot{{Key: key, Layers: []string{id}}}, nil
	}
	if id, err = o.checkout(ctx, r, ref, commit, subdir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		return nil, err
	}
	return []Snapshot{{Key: key, Layers: []string{id}}}, store.WriteUnsynced(record, id)
}

// keep says whether the layer has the repository's .git in it.
func (o *gitOp) keep() bool { return o.attrs[pb.AttrKeepGitDir] == "true" }

// where takes the source apart.
func (o *gitOp) where() (remote, ref, subdir string, err error) {
	base, fragment, _ := strings.Cut(o.id, "#")
	ref, subdir, _ = strings.Cut(fragment, ":")
	remote = o.attrs[pb.AttrFullRemoteURL]
	if remote == "" {
		remote = "https://" + base
	}
	remote, _, _ = strings.Cut(remote, "#")
	return remote, ref, subdir, git.Check(remote, ref)
}

// checkout brings one commit into a layer.
func (o *gitOp) checkout(ctx context.Context, r git.Repository, ref, commit, subdir string) (string, error) {
	dir, err := os.MkdirTemp(o.host.CacheDir, ".git-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := r.Checkout(ctx, dir, ref, commit); err != nil {
		return "", err
	}
	return o.layer(ctx, r.URL, dir, subdir)
}

// layer copies what was checked out. The part is found below the clone,
// whatever links the repository holds (CVE-2026-33748).
func (o *gitOp) layer(ctx context.Context, remote, dir, subdir string) (string, error) {
	exclude := []string{".git"}
	if o.keep() {
		exclude = nil
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	part, err := root.OpenFile(subdir, os.O_RDONLY, 0)
	if err != nil {
		return "", fmt.Errorf("git %s: no directory %q in it: %w", remote, subdir, err)
	}
	defer part.Close()
	t, err := scan.OpenContext(fmt.Sprintf("/proc/self/fd/%d", part.Fd()), exclude, nil)
	if err != nil {
		return "", err
	}
	defer t.Close()
	f := &fileOp{host: o.host, base: -1}
	return f.write(nil, false, func(root *inroot.Root) error {
		opts := copyin.Options{Contents: true, MakeDest: true}
		places, err := copyin.Plan(t, "/", root, "/", opts)
		if err != nil {
			return err
		}
		return copyin.Apply(ctx, t, root, places, opts)
	})
}
