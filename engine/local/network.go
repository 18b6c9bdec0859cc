package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
)

// byHand is whose keeper makes and removes what belongs to no project: no
// project can have this name. It lives as long as a command does.
const byHand = "_davit"

// A Place is what a network gave a container.
type Place struct {
	Container string // id
	Name      string
	MAC       string
	IPv4      string // with prefix length
	IPv6      string
}

// A NetworkView is a network with what was given out of it.
type NetworkView struct {
	engine.Network
	Pools  []netdns.Pool // as they stand
	Places []Place       // of the containers on it now, by id
}

var (
	// ErrNoNetwork means that no network has the name or id.
	ErrNoNetwork = errors.New("no such network")
	// ErrNetworkExists means that there is a network of that name.
	ErrNetworkExists = errors.New("network exists already")
)

// AllNetworks are the networks of this host, by name.
func (e *Engine) AllNetworks(ctx context.Context) ([]engine.Network, error) {
	names, err := store.Names(e.layout.Networks())
	if err != nil {
		return nil, err
	}
	all, err := e.Networks(ctx, names)
	if err != nil {
		return nil, err
	}
	var out []engine.Network
	for _, name := range names {
		if n, ok := all[name]; ok {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b engine.Network) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// FindNetwork returns the network of a name, or the one whose id is or begins
// with it; ErrNoNetwork when there is none.
func (e *Engine) FindNetwork(ctx context.Context, name string) (engine.Network, error) {
	if netdns.CheckName("network", name, 128) == nil {
		if all, err := e.Networks(ctx, []string{name}); err != nil || len(all) == 1 {
			return all[name], err
		}
	}
	all, err := e.AllNetworks(ctx)
	if err != nil {
		return engine.Network{}, err
	}
	var found []engine.Network
	for _, n := range all {
		if name != "" && strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return engine.Network{}, fmt.Errorf("network %s: %w", name, ErrNoNetwork)
	case 1:
		return found[0], nil
	}
	return engine.Network{}, fmt.Errorf("network %s: %d networks have ids that begin so", name, len(found))
}

// ViewNetwork tells what was given out of a network.
func (e *Engine) ViewNetwork(_ context.Context, n engine.Network) (NetworkView, error) {
	v := NetworkView{Network: n}
	rec := e.layout.Records()
	var standing netdns.Network
	if err := rec.Read("networks/"+n.Name+"/runtime", &standing); err == nil {
		v.Pools = standing.Pools
	}
	ids, err := rec.List("networks/" + n.Name + "/endpoints")
	if err != nil {
		return v, err
	}
	for _, id := range ids {
		var ep netdns.Endpoint
		if rec.Read("networks/"+n.Name+"/endpoints/"+id, &ep) != nil {
			continue // gone meanwhile
		}
		v.Places = append(v.Places, Place{Container: id, Name: ep.Name, MAC: ep.MAC,
			IPv4: inPool(ep.IPv4, v.Pools), IPv6: inPool(ep.IPv6, v.Pools)})
	}
	return v, nil
}

// inPool writes an address with the prefix length of its subnet.
func inPool(a netip.Addr, pools []netdns.Pool) string {
	if !a.IsValid() {
		return ""
	}
	for _, p := range pools {
		if p.Subnet.Contains(a) {
			return netip.PrefixFrom(a, p.Subnet.Bits()).String()
		}
	}
	return a.String()
}

// MakeNetwork makes a network that belongs to no project, and returns its id.
func (e *Engine) MakeNetwork(ctx context.Context, n engine.Network) (string, error) {
	if err := netdns.CheckName("network", n.Name, 128); err != nil {
		return "", err
	}
	if n.Name == "host" || n.Name == "none" || n.Name == "bridge" {
		return "", fmt.Errorf("network %s: the name stands for a network_mode; choose another", n.Name)
	}
	err := e.withoutProject(ctx, func() error {
		all, err := e.Networks(ctx, []string{n.Name})
		if err != nil {
			return err
		}
		if len(all) > 0 {
			return fmt.Errorf("network %s: %w", n.Name, ErrNetworkExists)
		}
		n.ID = newID()
		if err := e.CreateNetwork(ctx, n); err != nil {
			return errors.Join(err, e.RemoveNetwork(ctx, byHand, n.Name))
		}
		return nil
	})
	return n.ID, err
}

// DropNetwork removes a network, of whatever project or of none. One that a
// container still is on is left, with an error that names the container.
func (e *Engine) DropNetwork(ctx context.Context, n engine.Network) error {
	if n.Project != "" {
		c, err := wire.Dial(ctx, e.layout, n.Project)
		if err == nil {
			defer c.Close()
			return c.Call(ctx, wire.Request{Op: wire.OpNetRemove, Network: n.Name}, nil)
		}
		if !errors.Is(err, wire.ErrNoKeeper) {
			return err
		}
	}
	return e.withoutProject(ctx, func() error { return e.RemoveNetwork(ctx, byHand, n.Name) })
}

// withoutProject runs fn, which may call the keeper of no project; that keeper
// is gone afterwards.
func (e *Engine) withoutProject(ctx context.Context, fn func() error) error {
	unlock, err := e.LockProject(ctx, byHand)
	if err != nil {
		return err
	}
	defer unlock()
	err = fn()
	e.keepers.drop(byHand)
	return errors.Join(err, e.Shutdown(context.WithoutCancel(ctx), byHand))
}

// drop forgets the client of a project's keeper.
func (k *keepers) drop(project string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.clients[project]; c != nil {
		c.Close()
		delete(k.clients, project)
	}
}

// Users names the containers, running or not, that are defined to be on a
// network.
func (e *Engine) Users(network string) []string {
	var out []string
	_ = e.eachContainer(func(c *engine.Container) bool {
		if slices.ContainsFunc(c.Spec.Endpoints, func(p engine.EndpointSpec) bool { return p.Network == network }) {
			out = append(out, c.Name)
		}
		return true
	})
	return out
}

// UpdateContainer changes a container's networks, names, ports and name servers
// to those of spec, at once if it runs. What else spec says is recorded with it.
func (e *Engine) UpdateContainer(ctx context.Context, project, id string, spec engine.Spec) error {
	c, err := e.layout.LoadContainer(project, id)
	if err != nil {
		return err
	}
	c.Spec = spec
	if err := e.layout.SaveContainer(c); err != nil {
		return err
	}
	return e.call(ctx, project, wire.Request{Op: wire.OpReload, ID: id}, nil)
}

// Connect puts a container of any project on a further network, at once if it
// runs, and whenever it is started again.
func (e *Engine) Connect(ctx context.Context, container string, ep engine.EndpointSpec) error {
	ep.ByHand = true
	return e.edit(ctx, container, func(c *engine.Container) error {
		if mode := c.Spec.NetworkMode; mode != "" {
			kind, _, _ := strings.Cut(mode, ":")
			return fmt.Errorf("container %s has network_mode %s: it can be on no network", c.Name, kind)
		}
		if slices.ContainsFunc(c.Spec.Endpoints, func(o engine.EndpointSpec) bool { return o.Network == ep.Network }) {
			return fmt.Errorf("container %s is on network %s already", c.Name, ep.Network)
		}
		c.Spec.Endpoints = append(c.Spec.Endpoints, ep)
		return nil
	})
}

// Disconnect takes a container of any project off a network, now and for good.
func (e *Engine) Disconnect(ctx context.Context, container, network string) error {
	return e.edit(ctx, container, func(c *engine.Container) error {
		left := slices.DeleteFunc(slices.Clone(c.Spec.Endpoints), func(o engine.EndpointSpec) bool { return o.Network == network })
		if len(left) == len(c.Spec.Endpoints) {
			return fmt.Errorf("container %s is not on network %s", c.Name, network)
		}
		c.Spec.Endpoints = left
		return nil
	})
}

// edit changes a container's record under its project's lock. If the change
// cannot be brought about, the record is as it was.
func (e *Engine) edit(ctx context.Context, container string, change func(*engine.Container) error) error {
	id, err := e.Find(ctx, container)
	if err != nil {
		return err
	}
	project, err := e.projectOf(id)
	if err != nil {
		return err
	}
	unlock, err := e.LockProject(ctx, project)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := e.layout.LoadContainer(project, id)
	if err != nil {
		return err
	}
	was := c.Spec
	if err := change(c); err != nil {
		return err
	}
	if err := e.UpdateContainer(ctx, project, id, c.Spec); err != nil {
		return errors.Join(err, e.UpdateContainer(context.WithoutCancel(ctx), project, id, was))
	}
	return nil
}

// projectOf finds the project of a container.
func (e *Engine) projectOf(id string) (string, error) {
	projects, err := store.Names(e.layout.Projects())
	if err != nil {
		return "", err
	}
	for _, p := range projects {
		if _, err := os.Stat(filepath.Join(e.layout.Container(p, id), "container.json")); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%.12s: %w", id, ErrNoContainer)
}
