package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/log"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
)

// Options say which registries are asked and how.
type Options struct {
	ConfigDir string   // where Docker's config.json lies; empty: no credentials
	Mirrors   []string // URLs asked before Docker Hub
	Insecure  []string // hosts, with port, that may speak HTTP or show any certificate
	// Progress, unless nil, hears how each layer comes along; it is called
	// from several goroutines.
	Progress func(Progress)
}

// A Progress tells of one layer on its way.
type Progress struct {
	Layer  string // the layer's digest
	Status string // Pulling fs layer, Downloading, Pull complete, Already exists, Pushing, Pushed, Layer already exists
	Done   int64  // bytes
	Total  int64  // bytes
}

// A Client talks to registries for one image store.
type Client struct {
	images *image.Store
	layout store.Layout
	o      Options
	config dockerConfig
	plain  *http.Transport // checks certificates
	loose  *http.Transport // does not
}

// New returns a client for a layout's images. It reads credentials and
// opens nothing yet.
func New(l store.Layout, o Options) (*Client, error) {
	config, err := readConfig(o.ConfigDir)
	if err != nil {
		return nil, err
	}
	// containerd logs through a global logger, to standard error.
	_ = log.SetLevel("panic")
	c := &Client{images: image.Open(l), layout: l, o: o, config: config, plain: transport(), loose: transport()}
	c.loose.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // this machine, or asked for by name
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	c.plain.CloseIdleConnections()
	c.loose.CloseIdleConnections()
}

func transport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}
}

// HostSettings reads which mirrors and insecure registries this host's
// administrator has set, from davit's file and from Docker's, whose keys
// registry-mirrors and insecure-registries both use. Missing files are none.
func HostSettings() (mirrors, insecure []string, err error) {
	return hostSettings("/etc/davit/registries.json", "/etc/docker/daemon.json")
}

func hostSettings(paths ...string) (mirrors, insecure []string, err error) {
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var set struct {
			Mirrors  []string `json:"registry-mirrors"`
			Insecure []string `json:"insecure-registries"`
		}
		if err == nil {
			err = json.Unmarshal(b, &set)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("registry settings: %s: %w", path, err)
		}
		mirrors, insecure = append(mirrors, set.Mirrors...), append(insecure, set.Insecure...)
	}
	return mirrors, insecure, nil
}

// resolver makes containerd's resolver with our transports and credentials.
func (c *Client) resolver(ctx context.Context) remotes.Resolver {
	creds := func(host string) (string, string, error) { return c.config.credentials(ctx, host) }
	auth := docker.NewDockerAuthorizer(
		docker.WithAuthClient(&http.Client{Transport: tokenGuard{c.plain}, Timeout: 30 * time.Second}),
		docker.WithAuthCreds(creds))
	return docker.NewResolver(docker.ResolverOptions{
		Hosts:   func(host string) ([]docker.RegistryHost, error) { return c.hosts(host, auth) },
		Tracker: docker.NewInMemoryTracker(),
		Headers: http.Header{"User-Agent": {"davit"}},
	})
}

// hosts says who is asked for images of a registry, in order.
func (c *Client) hosts(host string, auth docker.Authorizer) ([]docker.RegistryHost, error) {
	var all []docker.RegistryHost
	if host == "docker.io" {
		for _, m := range c.o.Mirrors {
			h, err := c.mirror(m, auth)
			if err != nil {
				return nil, err
			}
			all = append(all, h)
		}
		host = "registry-1.docker.io"
	}
	return append(all, docker.RegistryHost{
		Client: c.http(host), Authorizer: auth, Host: host, Scheme: "https", Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
	}), nil
}

func (c *Client) mirror(address string, auth docker.Authorizer) (docker.RegistryHost, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return docker.RegistryHost{}, fmt.Errorf("registry mirror %q: not an http or https URL", address)
	}
	return docker.RegistryHost{
		Client: c.http(u.Host), Authorizer: auth, Host: u.Host, Scheme: u.Scheme, Path: strings.TrimRight(u.Path, "/") + "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
	}, nil
}

// http is how a host is spoken to: this machine's own registries and those
// named insecure may do without TLS or with any certificate, as with Docker.
func (c *Client) http(host string) *http.Client {
	local, _ := docker.MatchLocalhost(host)
	if local || slices.Contains(c.o.Insecure, host) {
		return &http.Client{Transport: patient{docker.NewHTTPFallback(c.loose)}}
	}
	return &http.Client{Transport: patient{c.plain}}
}

// maxToken bounds what a token server may answer, in bytes.
const maxToken = 1 << 20

// A tokenGuard keeps credentials off the wire in clear text: a registry may
// name any token server, but only one with TLS, or on this machine
// (CVE-2020-15157's rule).
type tokenGuard struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g tokenGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		if local, _ := docker.MatchLocalhost(r.URL.Host); !local {
			return nil, fmt.Errorf("token server %s does not use TLS: credentials not sent", r.URL.Host)
		}
	}
	resp, err := g.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxToken), resp.Body}
	}
	return resp, err
}
