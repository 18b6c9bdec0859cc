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
	"os"
	"slices"
	"sync"
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
	HostDirs  []string // folders of a folder for each registry: hosts.toml, certificates
	// Progress, unless nil, hears how each layer comes along; it is called
	// from several goroutines.
	Progress func(Progress)
}

// A Progress tells of one layer on its way.
type Progress struct {
	Layer  string // the layer's digest
	Status string // Pulling fs layer, Downloading, Pull complete, Already exists, Pushing, Pushed, Mounted, Layer already exists
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
	mu     sync.Mutex
	own    map[string]*http.Transport // of endpoints with settings of their own
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
	c := &Client{images: image.Open(l), layout: l, o: o, config: config, plain: transport(), loose: transport(), own: map[string]*http.Transport{}}
	c.loose.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // this machine, or asked for by name
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	c.plain.CloseIdleConnections()
	c.loose.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.own {
		t.CloseIdleConnections()
	}
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

// HostSettings completes options with what this host's administrator has set:
// mirrors of Docker Hub and insecure registries in davit's file and in
// Docker's, whose keys registry-mirrors and insecure-registries both use, and
// the folders that have one for each registry. Missing files are none.
func (o *Options) HostSettings() error {
	o.HostDirs = append(o.HostDirs, "/etc/davit/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d")
	return o.readSettings("/etc/davit/registries.json", "/etc/docker/daemon.json")
}

func (o *Options) readSettings(paths ...string) error {
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
			return fmt.Errorf("registry settings: %s: %w", path, err)
		}
		o.Mirrors, o.Insecure = append(o.Mirrors, set.Mirrors...), append(o.Insecure, set.Insecure...)
	}
	return nil
}

// resolver makes containerd's resolver with our transports and credentials.
func (c *Client) resolver(ctx context.Context) remotes.Resolver {
	creds := func(host string) (string, string, error) { return c.config.credentials(ctx, host) }
	auth := c.authorizer(creds)
	return docker.NewResolver(docker.ResolverOptions{
		Hosts:   func(host string) ([]docker.RegistryHost, error) { return c.hosts(host, auth) },
		Tracker: docker.NewInMemoryTracker(),
		Headers: http.Header{"User-Agent": {"davit"}},
	})
}

func (c *Client) authorizer(creds func(host string) (string, string, error)) docker.Authorizer {
	return docker.NewDockerAuthorizer(
		docker.WithAuthClient(&http.Client{Transport: tokenGuard{c}, Timeout: 30 * time.Second}),
		docker.WithAuthCreds(creds))
}

// hosts says who is asked for images of a registry, in order, itself last.
func (c *Client) hosts(registry string, auth docker.Authorizer) ([]docker.RegistryHost, error) {
	all, known, err := endpoints(c.o.HostDirs, registry)
	if err != nil {
		return nil, err
	}
	if registry == "docker.io" && !known {
		for i, address := range c.o.Mirrors {
			m, err := hostTable{Capabilities: []string{"pull", "resolve"}}.endpoint(address, "")
			if err != nil {
				return nil, fmt.Errorf("registry mirror %q: %w", address, err)
			}
			all = slices.Insert(all, i, m)
		}
	}
	var hosts []docker.RegistryHost
	for _, e := range all {
		t, err := c.connection(e)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, docker.RegistryHost{
			Client: &http.Client{Transport: patient{t}}, Authorizer: auth, Host: e.host, Scheme: e.scheme, Path: e.path,
			Capabilities: e.can, Header: e.header,
		})
	}
	return hosts, nil
}

// connection is how an endpoint is spoken to: this machine's own registries
// and those named insecure may do without TLS or with any certificate, as
// with Docker, unless there are settings for them.
func (c *Client) connection(e endpoint) (http.RoundTripper, error) {
	if !e.special() {
		if c.mayBePlain(e.host) {
			return docker.NewHTTPFallback(c.loose), nil
		}
		return c.plain, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.own[e.host]; t != nil {
		return t, nil
	}
	secure, err := e.tls()
	if err != nil {
		return nil, err
	}
	t := c.plain.Clone()
	t.TLSClientConfig = secure
	if e.dial > 0 {
		t.DialContext = (&net.Dialer{Timeout: e.dial, KeepAlive: 30 * time.Second}).DialContext
	}
	c.own[e.host] = t
	return t, nil
}

// mayBePlain tells whether a host may be spoken to without TLS.
func (c *Client) mayBePlain(host string) bool {
	local, _ := docker.MatchLocalhost(host)
	return local || slices.Contains(c.o.Insecure, host)
}

// maxToken bounds what a token server may answer, in bytes.
const maxToken = 1 << 20

// A tokenGuard keeps credentials off the wire in clear text: a registry may
// name any token server, but only one with TLS, or on this machine
// (CVE-2020-15157's rule), or one the administrator named insecure. Where the
// token server is the registry itself, its certificates are trusted here too.
type tokenGuard struct{ c *Client }

// RoundTrip implements http.RoundTripper.
func (g tokenGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.c.mayBePlain(r.URL.Host) {
		return nil, fmt.Errorf("token server %s does not use TLS: credentials not sent", r.URL.Host)
	}
	t, err := g.transport(r.URL.Host)
	if err != nil {
		return nil, err
	}
	resp, err := t.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxToken), resp.Body}
	}
	return resp, err
}

func (g tokenGuard) transport(host string) (http.RoundTripper, error) {
	if slices.Contains(g.c.o.Insecure, host) {
		return g.c.loose, nil
	}
	all, _, err := endpoints(g.c.o.HostDirs, host)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.host == host && e.special() {
			return g.c.connection(e)
		}
	}
	return g.c.plain, nil
}
