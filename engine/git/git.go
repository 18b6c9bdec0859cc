package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// A Repository is where commits come from. The program git fetches them, with
// the caller's credentials but without prompts, hooks and submodules.
type Repository struct {
	URL      string // https, http, ssh or git, or user@host:path
	SSHAgent string // socket of the agent that ssh asks; empty: the environment's
	Limits   Limits
}

// Limits bound what a repository may take in; what is 0 is not bounded.
type Limits struct {
	Pack    int64 // bytes that are fetched
	Files   int   // files, directories and links of the commit
	Content int64 // bytes of all of them
}

// Check refuses an address or a reference that git would read as an option,
// and every transport but https, http, ssh and git: ext:: runs commands
// (CVE-2022-39253, CVE-2019-13139).
func Check(url, ref string) error {
	if strings.HasPrefix(ref, "-") || strings.HasPrefix(url, "-") {
		return fmt.Errorf("git %s: a name may not begin with a dash", url)
	}
	scheme, _, ok := strings.Cut(url, "://")
	if !ok && strings.Contains(url, "@") && strings.Contains(url, ":") && !strings.Contains(url, "::") {
		return nil // user@host:path is ssh
	}
	switch scheme {
	case "https", "http", "ssh", "git":
		return nil
	}
	return fmt.Errorf("git %s: only https, http, ssh and git addresses are fetched", url)
}

// Resolve finds the commit that a branch, tag or commit name means; an empty
// one is the repository's own choice.
func (r Repository) Resolve(ctx context.Context, ref string) (commit string, err error) {
	if isCommit(ref) {
		return ref, nil
	}
	ref = refOr(ref)
	out, err := r.run(ctx, "", "ls-remote", "--", r.URL, ref, ref+"^{}")
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
		if c := found[name]; isCommit(c) {
			return c, nil
		}
	}
	return "", fmt.Errorf("git %s: there is no branch, tag or commit %q", r.URL, ref)
}

func isCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

func refOr(ref string) string {
	if ref == "" {
		return "HEAD"
	}
	return ref
}

// Checkout makes the empty directory dir a working copy of one commit, which
// ref names. Its .git is the caller's to remove.
func (r Repository) Checkout(ctx context.Context, dir, ref, commit string) error {
	if _, err := r.run(ctx, dir, "init", "--quiet"); err != nil {
		return err
	}
	if _, err := r.run(ctx, dir, "fetch", "--quiet", "--depth=1", "--no-tags", "--", r.URL, commit); err != nil {
		// Not every server gives out a commit by its name.
		if _, err := r.run(ctx, dir, "fetch", "--quiet", "--", r.URL, refOr(ref)); err != nil {
			return err
		}
	}
	if err := r.measure(ctx, dir, commit); err != nil {
		return err
	}
	_, err := r.run(ctx, dir, "-c", "core.symlinks=true", "checkout", "--quiet", "--force", commit)
	return err
}

// measure adds up a commit's files before any is written: a few kilobytes of
// trees can name billions of them.
func (r Repository) measure(ctx context.Context, dir, commit string) error {
	if r.Limits.Files == 0 && r.Limits.Content == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := r.command(ctx, dir, "ls-tree", "-r", "-t", "-l", "-z", commit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return missing(err)
	}
	if err = r.sum(bufio.NewReader(out)); err != nil {
		cancel()
		_ = cmd.Wait() // it was stopped
		return err
	}
	return cmd.Wait()
}

func (r Repository) sum(list *bufio.Reader) error {
	var files int
	var content int64
	for {
		line, err := list.ReadString(0)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if fields := strings.Fields(line); len(fields) > 3 {
			size, _ := strconv.ParseInt(fields[3], 10, 64) // "-" for directories
			content += size
		}
		files++
		if r.Limits.Files > 0 && files > r.Limits.Files {
			return fmt.Errorf("git %s: has more than %d files, the most that are allowed", r.URL, r.Limits.Files)
		}
		if r.Limits.Content > 0 && content > r.Limits.Content {
			return fmt.Errorf("git %s: has more than %d MiB of files, the most that are allowed", r.URL, r.Limits.Content>>20)
		}
	}
}

// aside are variables of a git that may have called davit, from a hook: they
// would send our git to that one's repository.
var aside = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_CONFIG"}

// command is git without the user's hooks, prompts and configuration of
// protocols.
func (r Repository) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	base := []string{"-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "protocol.http.allow=always",
		"-c", "protocol.ssh.allow=always", "-c", "protocol.git.allow=always", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"}
	cmd := exec.CommandContext(ctx, "git", append(base, args...)...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(aside, name)
	})
	cmd.Env = append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_LFS_SKIP_SMUDGE=1", "GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes")
	if r.SSHAgent != "" {
		cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+r.SSHAgent)
	}
	return cmd
}

func (r Repository) run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := r.command(ctx, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if cmd.Err != nil {
		return "", missing(cmd.Err)
	}
	if r.Limits.Pack > 0 && args[0] == "fetch" {
		bound(cmd, r.Limits.Pack)
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s %s: %w: %s", args[0], r.URL, err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// bound has a command, and those that it starts to write the pack, write no file
// of more bytes. A shell sets that before git begins: set from outside
// (prlimit(2)), it would not reach what git has started by then.
func bound(cmd *exec.Cmd, bytes int64) {
	// POSIX has ulimit -f count blocks of 512 bytes. It fails only where the user
	// has a lower limit already.
	blocks := max(1, bytes/512)
	cmd.Args = append([]string{"sh", "-c", `ulimit -f "$0" 2>/dev/null; exec "$@"`, strconv.FormatInt(blocks, 10), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}

func missing(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("git repositories need the program git; install it")
	}
	return err
}
