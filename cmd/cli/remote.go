package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine/git"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/registry"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/artifact"
	"github.com/davit-run/davit/project/compose"
)

// What remote compose files may take.
var (
	artifactBounds = registry.Bounds{Parts: 100, Bytes: 16 << 20}
	gitLimits      = git.Limits{Pack: 256 << 20, Files: 50_000, Content: 512 << 20}
)

// fetch brings the compose files that --allow-remote allows to this host, and
// says which content that is. Nothing is written but below davit's own data,
// under the digest or commit, whatever the command (CVE-2025-62725).
func (g *globals) fetch(ctx context.Context, address string) (compose.Fetched, error) {
	if !slices.ContainsFunc(g.allow, func(source string) bool { return allows(source, address) }) {
		return compose.Fetched{}, compose.Refused(address, "look at what is there, then allow it with --allow-remote "+shellQuote(origin(address)))
	}
	layout, err := store.Locate(g.root)
	if err != nil {
		return compose.Fetched{}, err
	}
	var at compose.Fetched
	var content string
	if strings.HasPrefix(address, "oci://") {
		at, content, err = g.fetchArtifact(ctx, layout, address)
	} else {
		at, content, err = fetchRepository(ctx, layout, address)
	}
	if err != nil {
		return at, &project.Error{What: err.Error()}
	}
	g.say("davit: %s is %s", address, content)
	return at, nil
}

// rest is what may follow an allowed beginning: no user name or port that
// would make it another host, no way upwards.
var rest = regexp.MustCompile(`^[A-Za-z0-9._/:@#-]*$`)

// allows says whether a source that the user has named covers an address: it is
// the address, or a directory above it, or its repository without tag, digest
// or reference.
func allows(source, address string) bool {
	more, ok := strings.CutPrefix(address, source)
	if !ok || more == "" {
		return ok
	}
	if !rest.MatchString(more) || slices.Contains(strings.Split(more, "/"), "..") {
		return false
	}
	_, path, hasScheme := strings.Cut(source, "://")
	if !hasScheme { // user@host:path, or github.com/path
		path = source[strings.IndexAny(source, ":/")+1:]
	}
	switch {
	case path == "":
		return false
	case strings.HasSuffix(source, "/"), more[0] == '/':
		return true
	case strings.HasPrefix(source, "oci://"):
		return strings.Contains(path, "/") && (more[0] == ':' || more[0] == '@')
	}
	return more[0] == '#'
}

// origin is an address without tag, digest or reference: what to allow.
func origin(address string) string {
	base, _, _ := strings.Cut(address, "#")
	if !strings.HasPrefix(base, "oci://") {
		return base
	}
	base, _, _ = strings.Cut(base, "@")
	if i := strings.LastIndexByte(base, ':'); i > strings.LastIndexByte(base, '/') {
		base = base[:i]
	}
	return base
}

// fetchArtifact brings the files of oci://REFERENCE.
func (g *globals) fetchArtifact(ctx context.Context, layout store.Layout, address string) (compose.Fetched, string, error) {
	e := local.Open(layout)
	defer e.Close()
	c, err := e.Registry(local.RegistryOptions{Insecure: g.insecure})
	if err != nil {
		return compose.Fetched{}, "", err
	}
	defer c.Close()
	a, err := c.Artifact(ctx, strings.TrimPrefix(address, "oci://"), artifact.Type, artifact.ConfigType, artifactBounds)
	if err != nil {
		return compose.Fetched{}, "", err
	}
	dir := layout.Remote(strings.TrimPrefix(a.Digest, "sha256:"))
	err = store.MakeTree(dir, func(dir string) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		var parts []artifact.Part
		for _, p := range a.Parts {
			parts = append(parts, artifact.Part(p))
		}
		return artifact.Unpack(root, parts)
	})
	if err == nil {
		err = store.Contained(dir)
	}
	if err != nil {
		return compose.Fetched{}, "", fmt.Errorf("%s: %w", address, err)
	}
	return compose.Fetched{File: filepath.Join(dir, artifact.MainFile), Root: dir}, a.Digest, nil
}

// fetchRepository brings one commit of a git repository: URL#REFERENCE:PATH.
func fetchRepository(ctx context.Context, layout store.Layout, address string) (compose.Fetched, string, error) {
	url, ref, path, err := repository(address)
	if err != nil {
		return compose.Fetched{}, "", err
	}
	r := git.Repository{URL: url, Limits: gitLimits}
	commit, err := r.Resolve(ctx, ref)
	if err != nil {
		return compose.Fetched{}, "", err
	}
	key := sha256.Sum256([]byte(url + "\x00" + commit))
	dir := layout.Remote(hex.EncodeToString(key[:]))
	err = store.MakeTree(dir, func(dir string) error {
		if err := r.Checkout(ctx, dir, ref, commit); err != nil {
			return err
		}
		return os.RemoveAll(filepath.Join(dir, ".git"))
	})
	if err == nil {
		err = store.Contained(dir)
	}
	if err != nil {
		return compose.Fetched{}, "", fmt.Errorf("%s: %w", address, err)
	}
	return compose.Fetched{File: filepath.Join(dir, path), Root: dir}, "commit " + commit, nil
}

// repository takes a git address apart, as docker compose writes them.
func repository(address string) (url, ref, path string, err error) {
	url, fragment, _ := strings.Cut(address, "#")
	ref, path, _ = strings.Cut(fragment, ":")
	if path == "" {
		path = "."
	}
	if strings.HasPrefix(url, "github.com/") {
		url = "https://" + strings.TrimSuffix(url, ".git") + ".git"
	}
	if strings.HasPrefix(url, "http") && !strings.HasSuffix(url, ".git") {
		return "", "", "", fmt.Errorf("%s: no git repository, whose address ends in .git; other files are not fetched", url)
	}
	if !filepath.IsLocal(path) {
		return "", "", "", fmt.Errorf("%s: %q leads out of the repository", url, path)
	}
	return url, ref, path, git.Check(url, ref)
}
