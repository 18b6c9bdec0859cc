package local

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/davit-run/davit/engine/registry"
)

// RegistryOptions say how registries are reached.
type RegistryOptions struct {
	// ConfigDir is where Docker's config.json lies; empty: the caller's
	// (ConfigDir).
	ConfigDir string
	// Insecure are hosts, beside the ones this host's administrator named,
	// that may speak HTTP or show any certificate.
	Insecure []string
	// Progress hears how each layer comes along, from several goroutines; nil:
	// nobody listens.
	Progress func(registry.Progress)
}

// ConfigDir is where the person who called keeps Docker's configuration:
// DOCKER_CONFIG, else .docker in their home, which behind sudo is that of
// SUDO_UID. Empty when they have no home.
func ConfigDir() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	if uid, _, ok := caller(); ok {
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && u.HomeDir != "" {
			return filepath.Join(u.HomeDir, ".docker")
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// Registry returns a client for this host's images; the caller closes it.
func (e *Engine) Registry(o RegistryOptions) (*registry.Client, error) {
	if o.ConfigDir == "" {
		o.ConfigDir = ConfigDir()
	}
	all := registry.Options{ConfigDir: o.ConfigDir, Insecure: slices.Clone(o.Insecure), Progress: o.Progress}
	if err := all.HostSettings(); err != nil {
		return nil, err
	}
	return registry.New(e.layout, all)
}

// Pull brings an image from its registry, for a platform such as linux/arm64
// (empty: this host's).
func (e *Engine) Pull(ctx context.Context, ref, platform string, o RegistryOptions) (registry.Pulled, error) {
	c, err := e.Registry(o)
	if err != nil {
		return registry.Pulled{}, err
	}
	defer c.Close()
	return c.Pull(ctx, ref, platform)
}

// Push sends an image to the registry in its name and returns its digest
// there.
func (e *Engine) Push(ctx context.Context, ref string, o RegistryOptions) (digest string, err error) {
	c, err := e.Registry(o)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.Push(ctx, ref)
}

// Asked tells when the registries of those of the references that are here
// were last asked for them.
func (e *Engine) Asked(refs []string) map[string]time.Time {
	out := make(map[string]time.Time, len(refs))
	for _, ref := range refs {
		at, err := e.images.NamedAt(ref)
		if err == nil {
			out[ref] = at
		}
	}
	return out
}

// Login keeps credentials for a registry, after the registry has taken them,
// in the configuration of the person who called; where tells where.
func (e *Engine) Login(ctx context.Context, l registry.Login) (where string, err error) {
	c, err := e.Registry(RegistryOptions{})
	if err != nil {
		return "", err
	}
	defer c.Close()
	uid, gid := Owner()
	return c.Login(ctx, l, uid, gid)
}

// Logout forgets the credentials for a registry; had tells whether there were
// any.
func (e *Engine) Logout(ctx context.Context, host string) (had bool, err error) {
	c, err := e.Registry(RegistryOptions{})
	if err != nil {
		return false, err
	}
	defer c.Close()
	uid, gid := Owner()
	return c.Logout(ctx, host, uid, gid)
}

// Owner is who files made for the caller belong to: the person behind sudo,
// or whom this process runs as.
func Owner() (uid, gid int) {
	if uid, gid, ok := caller(); ok {
		return uid, gid
	}
	return os.Geteuid(), os.Getegid()
}
