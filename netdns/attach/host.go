package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/bridge"
	"github.com/davit-run/davit/netdns/firewall"
	"github.com/davit-run/davit/netdns/netns"
	"github.com/davit-run/davit/netdns/resolver"
	"github.com/davit-run/davit/netdns/sandbox"
)

// Host is this machine's networking as one davit installation sees it. Any
// number of processes may have one over the same records; what they change
// together they change under the records' locks. Safe for concurrent use.
type Host struct {
	rec   netdns.Records
	ns    *os.File // nil: the namespace davit runs in
	tag   netdns.Tag
	links *bridge.Links
	table *firewall.Table

	mu      sync.Mutex
	proxies map[string]*proxy
}

// New opens the host over its records.
func New(rec netdns.Records) (*Host, error) { return NewIn(rec, nil) }

// NewIn opens network namespace ns as if it were the host. The namespace must
// stay open as long as the Host is used.
func NewIn(rec netdns.Records, ns *os.File) (*Host, error) {
	tag := netdns.TagOf(rec.Dir(""))
	h := &Host{rec: rec, ns: ns, tag: tag, proxies: map[string]*proxy{}}
	err := h.do(func() (err error) {
		if h.links, err = bridge.Open(); err != nil {
			return err
		}
		h.table, err = firewall.Open(tag)
		return err
	})
	if err != nil && h.links != nil {
		h.links.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("open host network: %w", err)
	}
	return h, nil
}

// Close gives back sockets and ends this process's proxies. What stands in the
// kernel stays.
func (h *Host) Close() error {
	h.mu.Lock()
	for _, p := range h.proxies {
		p.close()
	}
	clear(h.proxies)
	h.mu.Unlock()
	h.links.Close()
	return h.table.Close()
}

// Sandbox makes a network namespace for a container: lo is up, nothing else is
// there. The caller owns the descriptor.
func (h *Host) Sandbox(context.Context) (*os.File, error) { return sandbox.New() }

// do runs fn in the host's namespace.
func (h *Host) do(fn func() error) error { return netns.In(h.ns, fn) }

// locked runs fn in the host's namespace under a lock of the whole host. Locks
// are taken in this order: networks, network-NAME, firewall.
func (h *Host) locked(name string, fn func() error) error {
	unlock, err := h.rec.Lock(name)
	if err != nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	defer unlock()
	return h.do(fn)
}

func (h *Host) lockNetwork(name string, fn func() error) error {
	return h.locked("network-"+name, fn)
}

// runtime is what is recorded of a network that stands, or is being made.
type runtime struct {
	netdns.Network
	Bridge string `json:"bridge,omitempty"` // name of the link; empty for drivers without one

	damage error // of the record, when this is what else is known
}

// ErrNoNetwork says that a network was not made, or is gone.
var ErrNoNetwork = errors.New("network does not exist on this host")

func (h *Host) runtime(name string) (runtime, error) {
	var r runtime
	err := h.rec.Read(keyRuntime(name), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("network %s: %w", name, ErrNoNetwork)
	}
	if err != nil {
		err = fmt.Errorf("read network %s: %w", name, err)
		if r, ok := h.regain(name); ok {
			r.damage = err
			return r, nil
		}
		return r, err
	}
	return r, nil
}

// regain puts together what a damaged record said: what was asked for is on
// record beside it, and the subnets are those of the bridge, which is found by
// the network's id. One damaged file must keep nobody from the other networks,
// nor from removing this one; only to stand anew it needs a sound record.
func (h *Host) regain(name string) (r runtime, ok bool) {
	if err := h.rec.Read("networks/"+name+"/network.json", &r.Network); err != nil || r.Name != name || r.ID == "" {
		return runtime{}, false
	}
	if !bridged(r.Driver) {
		return r, true
	}
	r.Bridge = h.tag.Bridge(r.ID)
	err := h.do(func() error {
		link, err := net.InterfaceByName(r.Bridge)
		if err != nil {
			return nil // it does not stand
		}
		addrs, err := link.Addrs()
		for _, a := range addrs {
			if p, perr := netip.ParsePrefix(a.String()); perr == nil && !p.Addr().IsLinkLocalUnicast() {
				r.Pools = append(r.Pools, netdns.Pool{Subnet: p.Masked(), Gateway: p.Addr()})
			}
		}
		return err
	})
	return r, err == nil
}

// standing returns every recorded network of the installation.
func (h *Host) standing() ([]runtime, error) {
	names, err := h.rec.List("networks")
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	var out []runtime
	for _, n := range names {
		r, err := h.runtime(n)
		if errors.Is(err, ErrNoNetwork) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func keyRuntime(network string) string   { return "networks/" + network + "/runtime" }
func keyEndpoints(network string) string { return "networks/" + network + "/endpoints" }
func keyPorts(network string) string     { return "networks/" + network + "/ports" }

func keyEndpoint(network, container string) string { return keyEndpoints(network) + "/" + container }
func keyPort(network, container string) string     { return keyPorts(network) + "/" + container }

// Directory opens what this installation's resolvers answer from. The caller
// closes it.
func (h *Host) Directory() (*resolver.Directory, error) { return resolver.OpenDirectory(h.rec) }
