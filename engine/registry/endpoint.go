package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// An endpoint is one server that may be asked for a registry's images.
type endpoint struct {
	scheme, host, path string
	can                docker.HostCapabilities
	ca                 []string    // files of certificates to trust beside the system's
	client             [][2]string // files of certificates to show, each with its key
	skipVerify         bool
	header             http.Header
	dial               time.Duration // 0: as for others
}

// canAll is what a registry itself can do.
const canAll = docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush

// endpoints reads what the administrator has set for a registry in the first
// of the directories that has a folder for it: the servers to ask, in order,
// the registry itself last. Known tells whether servers are named there; else
// there is one endpoint, the registry with the certificates of the folder.
// The layouts are containerd's (docs/hosts.md there) and Docker's (*.crt,
// *.cert, *.key).
func endpoints(dirs []string, registry string) (all []endpoint, known bool, err error) {
	itself := endpoint{scheme: "https", host: registry, path: "/v2", can: canAll}
	if registry == "docker.io" {
		itself.host = "registry-1.docker.io"
	}
	dir := hostDir(dirs, registry)
	if dir == "" {
		return []endpoint{itself}, false, nil
	}
	file := filepath.Join(dir, "hosts.toml")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		err = itself.readCertificates(dir)
		return []endpoint{itself}, false, err
	}
	if err == nil {
		all, err = parseHosts(string(b), dir, itself)
	}
	if err != nil {
		return nil, false, fmt.Errorf("registry settings: %s: %w", file, err)
	}
	return all, true, nil
}

// hostDir finds a registry's folder. A port may be written as _PORT_, for
// those who cannot have a colon in a name.
func hostDir(dirs []string, registry string) string {
	names := []string{registry}
	if host, port, ok := strings.Cut(registry, ":"); ok {
		names = append(names, host+"_"+port+"_")
	}
	for _, name := range append(names, "_default") {
		for _, d := range dirs {
			if st, err := os.Stat(filepath.Join(d, name)); err == nil && st.IsDir() {
				return filepath.Join(d, name)
			}
		}
	}
	return ""
}

// readCertificates takes in a folder in Docker's layout.
func (e *endpoint) readCertificates(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("registry settings: %w", err)
	}
	for _, f := range entries {
		name := filepath.Join(dir, f.Name())
		switch filepath.Ext(name) {
		case ".crt":
			e.ca = append(e.ca, name)
		case ".cert":
			e.client = append(e.client, [2]string{name, strings.TrimSuffix(name, ".cert") + ".key"})
		}
	}
	return nil
}

// A hostTable is one table of hosts.toml.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`     // a path or several
	Client       any            `toml:"client"` // a path, several, or pairs of them
	SkipVerify   bool           `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// parseHosts reads a hosts.toml: its hosts in their order, and the server.
func parseHosts(text, dir string, itself endpoint) ([]endpoint, error) {
	var file struct {
		hostTable
		Server string               `toml:"server"`
		Host   map[string]hostTable `toml:"host"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, err
	}
	var all []endpoint
	seen := map[string]bool{}
	for _, key := range meta.Keys() {
		if len(key) < 2 || key[0] != "host" || seen[key[1]] {
			continue
		}
		seen[key[1]] = true
		e, err := file.Host[key[1]].endpoint(key[1], dir)
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", key[1], err)
		}
		all = append(all, e)
	}
	server := file.Server
	if server == "" {
		server = itself.scheme + "://" + itself.host
	}
	e, err := file.endpoint(server, dir)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", server, err)
	}
	return append(all, e), nil
}

func (t hostTable) endpoint(address, dir string) (endpoint, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return endpoint{}, errors.New("not an http or https URL")
	}
	e := endpoint{scheme: u.Scheme, host: u.Host, path: strings.TrimRight(u.Path, "/"), skipVerify: t.SkipVerify, header: http.Header{}}
	if !t.OverridePath && path.Base(e.path) != "v2" {
		e.path += "/v2"
	}
	if e.can, err = capabilities(t.Capabilities); err != nil {
		return e, err
	}
	if e.ca, err = texts(t.CA); err != nil {
		return e, fmt.Errorf("ca: %w", err)
	}
	if e.client, err = pairs(t.Client); err != nil {
		return e, fmt.Errorf("client: %w", err)
	}
	e.below(dir)
	for k, v := range t.Header {
		if e.header[http.CanonicalHeaderKey(k)], err = texts(v); err != nil {
			return e, fmt.Errorf("header %s: %w", k, err)
		}
	}
	if t.DialTimeout != "" {
		e.dial, err = time.ParseDuration(t.DialTimeout)
	}
	return e, err
}

func capabilities(names []string) (docker.HostCapabilities, error) {
	if len(names) == 0 {
		return canAll, nil
	}
	var all docker.HostCapabilities
	for _, name := range names {
		switch strings.ToLower(name) {
		case "pull":
			all |= docker.HostCapabilityPull
		case "resolve":
			all |= docker.HostCapabilityResolve
		case "push":
			all |= docker.HostCapabilityPush
		case "referrers": // nothing here asks for them
		default:
			return 0, fmt.Errorf("%q is not a capability: use pull, resolve and push", name)
		}
	}
	return all, nil
}

// texts reads a string or a list of strings.
func texts(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var all []string
		for _, one := range v {
			s, ok := one.(string)
			if !ok {
				return nil, fmt.Errorf("%v is not a string", one)
			}
			all = append(all, s)
		}
		return all, nil
	}
	return nil, fmt.Errorf("%v is neither a string nor a list of strings", v)
}

// pairs reads a path, paths, or pairs of paths; a path alone is of a file
// with both certificate and key.
func pairs(v any) ([][2]string, error) {
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	var all [][2]string
	for _, one := range list {
		files, err := texts(one)
		if err != nil {
			return nil, err
		}
		switch len(files) {
		case 1:
			all = append(all, [2]string{files[0], files[0]})
		case 2:
			all = append(all, [2]string{files[0], files[1]})
		default:
			return nil, fmt.Errorf("%d files: give a certificate and its key", len(files))
		}
	}
	return all, nil
}

// below makes relative paths those of files beside hosts.toml.
func (e *endpoint) below(dir string) {
	abs := func(p *string) {
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	for i := range e.ca {
		abs(&e.ca[i])
	}
	for i := range e.client {
		abs(&e.client[i][0])
		abs(&e.client[i][1])
	}
}

// special tells whether the endpoint needs a connection of its own.
func (e *endpoint) special() bool {
	return len(e.ca) > 0 || len(e.client) > 0 || e.skipVerify || e.dial > 0
}

// tls is how a connection to the endpoint is secured.
func (e *endpoint) tls() (*tls.Config, error) {
	c := &tls.Config{InsecureSkipVerify: e.skipVerify} // as the administrator has set
	if len(e.ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
		c.RootCAs = pool
	}
	for _, file := range e.ca {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("registry settings: %w", err)
		}
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("registry settings: %s: no certificate in PEM", file)
		}
	}
	for _, pair := range e.client {
		cert, err := tls.LoadX509KeyPair(pair[0], pair[1])
		if err != nil {
			return nil, fmt.Errorf("registry settings: %s: %w", pair[0], err)
		}
		c.Certificates = append(c.Certificates, cert)
	}
	return c, nil
}
