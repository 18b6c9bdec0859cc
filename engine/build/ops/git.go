package ops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
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
	g := git{host: o.host, remote: remote, keep: o.attrs[pb.AttrKeepGitDir] == "true", ssh: o.host.SSH[o.attrs[pb.AttrMountSSHSock]]}
	commit, err := g.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if want := o.attrs[pb.AttrGitChecksum]; want != "" && !strings.HasPrefix(commit, want) {
		return nil, fmt.Errorf("git %s: %s is at commit %s, not %s", remote, ref, commit, want)
	}
	key := Hash("git", remote, commit, subdir, fmt.Sprint(g.keep))
	record := filepath.Join(o.host.CacheDir, "git", key)
	var id string
	if store.Read(record, &id) == nil && o.host.Layers.Has(id) {
		return []Snapshot{{Key: key, Layers: []string{id}}}, nil
	}
	if id, err = g.checkout(ctx, ref, commit, subdir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		return nil, err
	}
	return []Snapshot{{Key: key, Layers: []string{id}}}, store.WriteUnsynced(record, id)
}

// where takes the source apart. A reference that git would read as an option
// is refused, and so is a transport other than https, http, ssh and git:
// ext:: runs commands (CVE-2022-39253, CVE-2019-13139).
func (o *gitOp) where() (remote, ref, subdir string, err error) {
	base, fragment, _ := strings.Cut(o.id, "#")
	ref, subdir, _ = strings.Cut(fragment, ":")
	remote = o.attrs[pb.AttrFullRemoteURL]
	if remote == "" {
		remote = "https://" + base
	}
	remote, _, _ = strings.Cut(remote, "#")
	if strings.HasPrefix(ref, "-") || strings.HasPrefix(remote, "-") {
		return "", "", "", fmt.Errorf("git %s: a name may not begin with a dash", o.id)
	}
	scheme, _, ok := strings.Cut(remote, "://")
	if !ok && strings.Contains(remote, "@") && strings.Contains(remote, ":") && !strings.Contains(remote, "::") {
		return remote, ref, subdir, nil // user@host:path is ssh
	}
	switch scheme {
	case "https", "http", "ssh", "git":
		return remote, ref, subdir, nil
	}
	return "", "", "", fmt.Errorf("git %s: only https, http, ssh and git addresses are fetched", remote)
}

type git struct {
	host   *Host
	remote string
	keep   bool
	ssh    string // agent socket
}

// run starts git without the user's hooks, prompts and configuration of
// protocols.
func (g git) run(ctx context.Context, dir string, args ...string) (string, error) {
	base := []string{"-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always",
		"-c", "protocol.ssh.allow=always", "-c", "protocol.git.allow=always", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"}
	cmd := exec.CommandContext(ctx, "git", append(base, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_LFS_SKIP_SMUDGE=1", "GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes")
	if g.ssh != "" {
		cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+g.ssh)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("building from git needs the program git; install it")
		}
		return "", fmt.Errorf("git %s %s: %w: %s", args[0], g.remote, err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// resolve finds the commit that a branch, tag or commit name means.
func (g git) resolve(ctx context.Context, ref string) (string, error) {
	if len(ref) == 40 && strings.Trim(ref, "0123456789abcdef") == "" {
		return ref, nil
	}
	if ref == "" {
		ref = "HEAD"
	}
	out, err := g.run(ctx, "", "ls-remote", "--", g.remote, ref, ref+"^{}")
	if err != nil {
		return "", err
	}
	found := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if commit, name, ok := strings.Cut(line, "\t"); ok {
			found[name] = commit
		}
	}
	for _, name := range []string{ref + "^{}", "refs/tags/" + ref + "^{}", "refs/heads/" + ref, "refs/tags/" + ref, ref} {
		if c := found[name]; c != "" {
			return c, nil
		}
	}
	return "", fmt.Errorf("git %s: there is no branch, tag or commit %q", g.remote, ref)
}

// checkout brings one commit into a layer.
func (g git) checkout(ctx context.Context, ref, commit, subdir string) (string, error) {
	dir, err := os.MkdirTemp(g.host.CacheDir, ".git-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if _, err := g.run(ctx, dir, "init", "--quiet"); err != nil {
		return "", err
	}
	if _, err := g.run(ctx, dir, "fetch", "--quiet", "--depth=1", "--no-tags", "--", g.remote, commit); err != nil {
		// Not every server gives out a commit by its name.
		if _, err := g.run(ctx, dir, "fetch", "--quiet", "--", g.remote, refOr(ref)); err != nil {
			return "", err
		}
	}
	if _, err := g.run(ctx, dir, "-c", "core.symlinks=true", "checkout", "--quiet", "--force", commit); err != nil {
		return "", err
	}
	return g.layer(ctx, dir, subdir)
}

func refOr(ref string) string {
	if ref == "" {
		return "HEAD"
	}
	return ref
}

// layer copies what was checked out. The part is found below the clone,
// whatever links the repository holds (CVE-2026-33748).
func (g git) layer(ctx context.Context, dir, subdir string) (string, error) {
	exclude := []string{".git"}
	if g.keep {
		exclude = nil
	}
	root, err := inroot.Open(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	part, err := root.OpenFile(subdir, os.O_RDONLY, 0)
	if err != nil {
		return "", fmt.Errorf("git %s: no directory %q in it: %w", g.remote, subdir, err)
	}
	defer part.Close()
	t, err := scan.OpenContext(fmt.Sprintf("/proc/self/fd/%d", part.Fd()), exclude, nil)
	if err != nil {
		return "", err
	}
	defer t.Close()
	o := &fileOp{host: g.host, base: -1}
	return o.write(nil, func(root *inroot.Root) error {
		opts := copyin.Options{Contents: true, MakeDest: true}
		places, err := copyin.Plan(t, "/", root, "/", opts)
		if err != nil {
			return err
		}
		return copyin.Apply(ctx, t, root, places, opts)
	})
}
