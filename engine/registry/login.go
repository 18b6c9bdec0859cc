package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// A Login is who somebody is to a registry.
type Login struct {
	Host           string // such as ghcr.io; empty or docker.io: Docker Hub
	User, Password string
}

// Login asks the registry whether it takes the credentials, and then keeps
// them where Docker's tools keep theirs: with the credential helper that
// config.json names, else in that file, mode 0600, of the given owner (-1:
// unchanged). It tells where they were kept.
func (c *Client) Login(ctx context.Context, l Login, uid, gid int) (where string, err error) {
	if err := c.try(ctx, l); err != nil {
		return "", err
	}
	if helper := c.config.helper(l.key()); helper != "" {
		return "docker-credential-" + helper, helperStore(ctx, helper, l)
	}
	path := filepath.Join(c.o.ConfigDir, "config.json")
	return path, changeConfig(path, uid, gid, func(auths map[string]json.RawMessage) error {
		b, err := json.Marshal(map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(l.User + ":" + l.Password))})
		auths[l.key()] = b
		return err
	})
}

// Logout forgets the credentials for a host, wherever they are kept; had tells
// whether there were any.
func (c *Client) Logout(ctx context.Context, host string, uid, gid int) (had bool, err error) {
	l := Login{Host: host}
	if helper := c.config.helper(l.key()); helper != "" {
		if err := helperErase(ctx, helper, l.key()); err != nil {
			return false, err
		}
		had = true
	}
	path := filepath.Join(c.o.ConfigDir, "config.json")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return had, nil
	}
	err = changeConfig(path, uid, gid, func(auths map[string]json.RawMessage) error {
		for _, k := range configKeys(l.host()) {
			if _, ok := auths[k]; ok {
				had = true
				delete(auths, k)
			}
		}
		return nil
	})
	return had, err
}

func (l Login) host() string {
	switch h := strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(l.Host, "https://"), "http://"), "/"); h {
	case "", "docker.io", "index.docker.io", "index.docker.io/v1", "registry-1.docker.io":
		return "docker.io"
	default:
		host, _, _ := strings.Cut(h, "/")
		return host
	}
}

// key is what config.json calls the host.
func (l Login) key() string {
	if l.host() == "docker.io" {
		return hubKey
	}
	return l.host()
}

// try asks for /v2/ with the credentials, following the challenge as a pull
// would.
func (c *Client) try(ctx context.Context, l Login) error {
	auth := c.authorizer(func(string) (string, string, error) { return l.User, l.Password, nil })
	hosts, err := c.hosts(l.host(), auth)
	if err != nil {
		return err
	}
	h := hosts[len(hosts)-1] // mirrors come first, and are not logged in to
	for range 3 {
		resp, err := ping(ctx, h)
		if err != nil {
			return c.explain("log in to", l.host(), err)
		}
		switch resp.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusUnauthorized:
			if err := auth.AddResponses(ctx, []*http.Response{resp}); err != nil {
				return refusedLogin(l, err)
			}
		default:
			return fmt.Errorf("log in to %s: the registry answers %s", l.host(), resp.Status)
		}
	}
	return refusedLogin(l, nil)
}

func ping(ctx context.Context, h docker.RegistryHost) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Scheme+"://"+h.Host+h.Path+"/", nil)
	if err != nil {
		return nil, err
	}
	if err := h.Authorizer.Authorize(ctx, req); err != nil {
		return nil, err
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return nil, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxToken))
	return resp, resp.Body.Close()
}

func refusedLogin(l Login, err error) error {
	why := ErrDenied
	if err != nil && !errors.Is(err, docker.ErrInvalidAuthorization) {
		return fmt.Errorf("log in to %s: %w", l.host(), err)
	}
	return failure("check user name and password", "log in to %s: %w", l.host(), why)
}

// helper is the credential helper that config.json names for a key.
func (c dockerConfig) helper(key string) string {
	if h := c.CredHelpers[key]; h != "" {
		return h
	}
	return c.CredsStore
}

func helperStore(ctx context.Context, helper string, l Login) error {
	b, err := json.Marshal(map[string]string{"ServerURL": l.key(), "Username": l.User, "Secret": l.Password})
	if err != nil {
		return err
	}
	return runHelper(ctx, helper, "store", string(b))
}

func helperErase(ctx context.Context, helper, key string) error {
	return runHelper(ctx, helper, "erase", key)
}

// runHelper runs one verb of a credential helper; what it stores goes over its
// standard input, never into its arguments.
func runHelper(ctx context.Context, name, verb, input string) error {
	if strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("credential helper %q: not a helper's name", name)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, verb)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "credentials not found") {
		return fmt.Errorf("credential helper docker-credential-%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// changeConfig changes the auths of a config.json and leaves all else in it as
// it was. The file appears whole, with mode 0600.
func changeConfig(path string, uid, gid int, change func(map[string]json.RawMessage) error) error {
	all := map[string]json.RawMessage{}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep registry credentials: %s: %w", path, err)
	}
	auths := map[string]json.RawMessage{}
	if raw, ok := all["auths"]; ok {
		if err := json.Unmarshal(raw, &auths); err != nil {
			return fmt.Errorf("keep registry credentials: %s: %w", path, err)
		}
	}
	before := maps.Clone(auths)
	if err := change(auths); err != nil {
		return err
	}
	if maps.EqualFunc(before, auths, func(a, b json.RawMessage) bool { return slices.Equal(a, b) }) {
		return nil
	}
	if all["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	if b, err = json.MarshalIndent(all, "", "\t"); err != nil {
		return err
	}
	return writePrivate(path, append(b, '\n'), uid, gid)
}

func writePrivate(path string, b []byte, uid, gid int) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("keep registry credentials: %w", err)
		}
		if err := os.Lchown(dir, uid, gid); err != nil {
			return fmt.Errorf("keep registry credentials: %w", err)
		}
	}
	f, err := os.CreateTemp(dir, ".config.json-")
	if err != nil {
		return fmt.Errorf("keep registry credentials: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chown(uid, gid), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keep registry credentials: %w", err)
	}
	return nil
}
