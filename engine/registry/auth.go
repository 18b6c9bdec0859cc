package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// hubKey is what Docker Hub is called in Docker's config.json.
const hubKey = "https://index.docker.io/v1/"

// maxAuthFile bounds config.json, in bytes.
const maxAuthFile = 1 << 20

// A dockerConfig is the part of Docker's config.json that concerns registries.
type dockerConfig struct {
	Auths       map[string]authEntry `json:"auths"`
	CredsStore  string               `json:"credsStore"`
	CredHelpers map[string]string    `json:"credHelpers"`
}

type authEntry struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
}

// readConfig reads config.json in dir; none is an empty one.
func readConfig(dir string) (dockerConfig, error) {
	var c dockerConfig
	path := filepath.Join(dir, "config.json")
	f, err := os.Open(path)
	if dir == "" || errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read registry credentials: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAuthFile))
	if err != nil {
		return c, fmt.Errorf("read registry credentials: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read registry credentials: %s: %w", path, err)
	}
	return c, nil
}

// credentials returns the user and secret for a host as requests name it; an
// empty user with a secret is an identity token. A host that is not mentioned
// gets none: no host ever sees what was meant for another.
func (c dockerConfig) credentials(ctx context.Context, host string) (user, secret string, err error) {
	keys := configKeys(host)
	for _, k := range keys {
		if helper := c.CredHelpers[k]; helper != "" {
			return askHelper(ctx, helper, k)
		}
	}
	if c.CredsStore != "" {
		for _, k := range keys {
			user, secret, err = askHelper(ctx, c.CredsStore, k)
			if err != nil || secret != "" {
				return user, secret, err
			}
		}
	}
	for _, k := range keys {
		if e, ok := c.Auths[k]; ok {
			return e.open(k)
		}
	}
	return "", "", nil
}

// configKeys are the names under which config.json may know a host.
func configKeys(host string) []string {
	if host == "registry-1.docker.io" || host == "docker.io" || host == "index.docker.io" {
		return []string{hubKey, "index.docker.io", "docker.io", "registry-1.docker.io"}
	}
	return []string{host, "https://" + host, "https://" + host + "/v1/", "https://" + host + "/v2/", "http://" + host}
}

func (e authEntry) open(key string) (string, string, error) {
	if e.IdentityToken != "" {
		return "", e.IdentityToken, nil
	}
	if e.Auth == "" {
		return e.Username, e.Password, nil
	}
	b, err := base64.StdEncoding.DecodeString(e.Auth)
	user, secret, ok := strings.Cut(strings.TrimRight(string(b), "\x00"), ":")
	if err != nil || !ok {
		return "", "", fmt.Errorf("registry credentials for %s: not base64 of user:password", key)
	}
	return user, secret, nil
}

// askHelper runs docker-credential-<name> get, the protocol of
// github.com/docker/docker-credential-helpers.
func askHelper(ctx context.Context, name, key string) (user, secret string, err error) {
	if strings.ContainsAny(name, "/\x00") {
		return "", "", fmt.Errorf("credential helper %q: not a helper's name", name)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+name, "get")
	cmd.Stdin = strings.NewReader(key)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if strings.Contains(out.String(), "credentials not found") {
			return "", "", nil
		}
		return "", "", fmt.Errorf("credential helper docker-credential-%s: %w: %s", name, err, strings.TrimSpace(out.String()+complaint.String()))
	}
	var got struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		return "", "", fmt.Errorf("credential helper docker-credential-%s: %w", name, err)
	}
	if got.Username == "<token>" {
		got.Username = ""
	}
	return got.Username, got.Secret, nil
}
