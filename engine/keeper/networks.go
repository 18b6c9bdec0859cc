package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
)

// networks is what the keeper knows of the networks its containers are on.
type networks struct {
	open func() (Network, error)

	mu       sync.Mutex
	host     Network
	standing map[string]*standing
}

// A standing network was ensured by this keeper; those who need it meanwhile
// wait for the one who does it.
type standing struct {
	once sync.Once
	n    netdns.Network
	err  error
}

// network opens this host's networking when it is first needed, and from then
// on watches over its rules.
func (k *Keeper) network() (Network, error) {
	k.net.mu.Lock()
	defer k.net.mu.Unlock()
	if k.net.host != nil {
		return k.net.host, nil
	}
	host, err := k.net.open()
	if err != nil {
		return nil, err
	}
	k.net.host = host
	go func() {
		for k.ctx.Err() == nil {
			if err := host.Watch(k.ctx); err != nil && k.ctx.Err() == nil {
				k.log("watch over the firewall: %v", err)
			}
			select {
			case <-k.ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return host, nil
}

// ensureNetwork makes a network's bridge and rules stand, though they may have
// stood before.
func (k *Keeper) ensureNetwork(ctx context.Context, name string) error {
	k.net.mu.Lock()
	delete(k.net.standing, name)
	k.net.mu.Unlock()
	_, err := k.stand(ctx, name)
	if err == nil {
		k.events.tell(engine.Event{Type: "network", Action: "create", Name: name})
	}
	return err
}

// stand returns a network that stands, ensuring it once in this keeper's life.
func (k *Keeper) stand(ctx context.Context, name string) (netdns.Network, error) {
	if err := netdns.CheckName("network", name, 128); err != nil {
		return netdns.Network{}, err
	}
	k.net.mu.Lock()
	if k.net.standing == nil {
		k.net.standing = make(map[string]*standing)
	}
	s := k.net.standing[name]
	if s != nil && s.n.ID != "" && !k.recorded(name, s.n.ID) {
		s = nil // removed and made anew by another keeper
	}
	if s == nil {
		s = &standing{}
		k.net.standing[name] = s
	}
	k.net.mu.Unlock()
	s.once.Do(func() { s.n, s.err = k.raise(ctx, name) })
	if s.err != nil {
		k.net.mu.Lock()
		if k.net.standing[name] == s {
			delete(k.net.standing, name)
		}
		k.net.mu.Unlock()
	}
	return s.n, s.err
}

// recorded says whether the network on record is still the one with that id.
func (k *Keeper) recorded(name, id string) bool {
	var rec engine.Network
	err := store.Read(filepath.Join(k.o.Layout.Network(name), "network.json"), &rec)
	return err != nil && !errors.Is(err, store.ErrNotFound) || rec.ID == id
}

func (k *Keeper) raise(ctx context.Context, name string) (netdns.Network, error) {
	var rec engine.Network
	err := store.Read(filepath.Join(k.o.Layout.Network(name), "network.json"), &rec)
	if errors.Is(err, store.ErrNotFound) {
		return netdns.Network{}, refuse("not-found", "no such network: %s", name)
	}
	if err != nil {
		return netdns.Network{}, err
	}
	n, err := netOf(rec)
	if err != nil {
		return n, fmt.Errorf("network %s: %w", name, err)
	}
	host, err := k.network()
	if err != nil {
		return n, err
	}
	return host.Ensure(ctx, n)
}

// netOf is a network's record in the words of netdns.
func netOf(rec engine.Network) (netdns.Network, error) {
	n := netdns.Network{Name: rec.Name, ID: rec.ID, Driver: rec.Driver, Internal: rec.Internal,
		NoIPv4: rec.NoIPv4, IPv6: rec.IPv6, Options: rec.Options}
	for _, p := range rec.IPAM {
		pool, err := poolOf(p)
		if err != nil {
			return n, err
		}
		n.Pools = append(n.Pools, pool)
	}
	return n, nil
}

func poolOf(p engine.Pool) (pool netdns.Pool, err error) {
	if p.Subnet == "" { // options only: davit chooses the subnet
		return pool, errors.New("an address pool has no subnet")
	}
	if pool.Subnet, err = netip.ParsePrefix(p.Subnet); err != nil {
		return pool, err
	}
	if p.Range != "" {
		if pool.Range, err = netip.ParsePrefix(p.Range); err != nil {
			return pool, err
		}
	}
	if p.Gateway != "" {
		if pool.Gateway, err = netip.ParseAddr(p.Gateway); err != nil {
			return pool, err
		}
	}
	for name, a := range p.Aux {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return pool, err
		}
		if pool.Aux == nil {
			pool.Aux = make(map[string]netip.Addr)
		}
		pool.Aux[name] = addr
	}
	return pool, nil
}

// removeNetwork takes a network and its record away; one that is not there is
// no error.
func (k *Keeper) removeNetwork(ctx context.Context, name string) error {
	if err := netdns.CheckName("network", name, 128); err != nil {
		return err
	}
	host, err := k.network()
	if err != nil {
		return err
	}
	if err := k.inUse(name); err != nil {
		return err
	}
	k.net.mu.Lock()
	delete(k.net.standing, name)
	k.net.mu.Unlock()
	if err := host.Remove(ctx, name); err != nil {
		return err
	}
	if err := os.RemoveAll(k.o.Layout.Network(name)); err != nil {
		return fmt.Errorf("remove network %s: %w", name, err)
	}
	k.events.tell(engine.Event{Type: "network", Action: "destroy", Name: name})
	return nil
}
