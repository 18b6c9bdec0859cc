package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The files that davit writes for a container, each shown at /etc/NAME.
const (
	hostsFile    = "hosts"
	hostnameFile = "hostname"
	resolvFile   = "resolv.conf"
)

const hostsHead = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// writeFiles writes a container's own hosts, hostname and resolv.conf. They
// are written in place: a bind mount shows the file, not its name.
func (c *container) writeFiles() error {
	hosts, err := c.hosts()
	if err != nil {
		return err
	}
	resolv, err := c.resolvConf()
	if err != nil {
		return err
	}
	return c.put(map[string][]byte{
		hostsFile: hosts, hostnameFile: []byte(c.hostname() + "\n"), resolvFile: resolv,
	})
}

func (c *container) put(files map[string][]byte) error {
	dir := c.k.o.Layout.Container(c.k.o.Project, c.id)
	for name, content := range files {
		if err := overwrite(filepath.Join(dir, name), content); err != nil {
			return fmt.Errorf("write %s of %s: %w", name, c.name(), err)
		}
	}
	return nil
}

// overwrite keeps the file's inode; what is no regular file is replaced.
func overwrite(path string, content []byte) error {
	if st, err := os.Lstat(path); err == nil {
		if !st.Mode().IsRegular() {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		} else if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, content) {
			return nil
		}
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// copyFiles gives a container the files of the one whose network it shares.
func (c *container) copyFiles(from string) error {
	files := make(map[string][]byte)
	for _, name := range []string{hostsFile, hostnameFile, resolvFile} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("share the network: %w", err)
		}
		files[name] = b
	}
	extra, err := c.extraHosts()
	if err != nil {
		return err
	}
	files[hostsFile] = append(files[hostsFile], extra...)
	return c.put(files)
}

func (c *container) hostname() string {
	if c.rec.Spec.Hostname != "" {
		return c.rec.Spec.Hostname
	}
	if c.rec.Spec.NetworkMode == "host" || c.rec.Spec.Security.UTS == "host" {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return short(c.id)
}

// hosts is /etc/hosts: the host's own for its network, else localhost, what
// the record adds, and the container's name at its addresses.
func (c *container) hosts() ([]byte, error) {
	extra, err := c.extraHosts()
	if err != nil {
		return nil, err
	}
	if c.rec.Spec.NetworkMode == "host" {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil {
			own = []byte(hostsHead)
		}
		return append(own, extra...), nil
	}
	var b strings.Builder
	b.WriteString(hostsHead)
	b.Write(extra)
	name := c.hostname()
	if d := c.rec.Spec.Domainname; d != "" {
		name += "." + d + " " + name
	}
	for _, ep := range c.place.Endpoints {
		if ep.IPv4.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", ep.IPv4, name)
		}
		if ep.IPv6.IsValid() {
			fmt.Fprintf(&b, "%s\t%s\n", ep.IPv6, name)
		}
	}
	return []byte(b.String()), nil
}

// extraHosts are the record's extra names; host-gateway is the address of the
// host on the container's first network.
func (c *container) extraHosts() ([]byte, error) {
	var b bytes.Buffer
	for _, e := range c.rec.Spec.ExtraHosts {
		name, address, ok := strings.Cut(e, ":")
		if eq, a, found := strings.Cut(e, "="); found && !strings.Contains(eq, ":") {
			name, address, ok = eq, a, true
		}
		if !ok || name == "" || address == "" {
			return nil, fmt.Errorf("extra host %q of %s: write it as name:address", e, c.name())
		}
		if address == "host-gateway" {
			address = c.hostGateway()
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(address, "[]"), name)
	}
	return b.Bytes(), nil
}

func (c *container) hostGateway() string {
	for _, p := range c.place.Pools {
		if p.Gateway.IsValid() {
			return p.Gateway.String()
		}
	}
	for _, p := range c.place.Pools6 {
		if p.Gateway.IsValid() {
			return p.Gateway.String()
		}
	}
	return "127.0.0.1"
}

// resolvConf is /etc/resolv.conf: davit's resolver where there is one, the
// host's where the container has the host's network.
func (c *container) resolvConf() ([]byte, error) {
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	spec := c.rec.Spec
	servers, search, options := parseResolv(own)
	switch {
	case len(c.place.Endpoints) > 0:
		servers = []string{"127.0.0.11"}
		options = []string{"ndots:0"}
	case len(spec.DNS) > 0:
		servers = spec.DNS
	}
	if len(spec.DNSSearch) > 0 {
		search = spec.DNSSearch
	}
	if len(search) == 1 && search[0] == "." {
		search = nil
	}
	if len(spec.DNSOptions) > 0 {
		options = spec.DNSOptions
		if len(c.place.Endpoints) > 0 && !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
			options = append(slices.Clone(options), "ndots:0") // one label may be a container's name
		}
	}
	var b bytes.Buffer
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes(), nil
}

// parseResolv reads resolv.conf(5); the last search or domain line counts.
func parseResolv(b []byte) (servers, search, options []string) {
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			servers = append(servers, f[1])
		case "search", "domain":
			search = f[1:]
		case "options":
			options = append(options, f[1:]...)
		}
	}
	return servers, search, options
}
