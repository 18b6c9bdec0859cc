package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
)

// joinPlace shares the namespace of another container.
func (c *container) joinPlace(other string) error {
	if !validID(other) {
		return fmt.Errorf("container %s shares the network of %.80q, which is no id", c.name(), other)
	}
	project, rec, state, err := c.k.other(other)
	if err != nil {
		return fmt.Errorf("share the network of container %s: %w", short(other), err)
	}
	if state.PID == 0 {
		return refuse("conflict", "container %s shares the network of %s, which is not running", c.name(), rec.Name)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", state.PID))
	if err != nil {
		return fmt.Errorf("share the network of container %s: %w", rec.Name, err)
	}
	c.place.ns = ns
	return c.copyFiles(c.k.o.Layout.Container(project, other))
}

// joins are the processes whose pid and ipc namespaces the container shares.
func (c *container) joins() (map[string]int, error) {
	var pids map[string]int
	for _, mode := range []string{c.rec.Spec.Security.IPC, c.rec.Spec.Security.PID} {
		id, ok := strings.CutPrefix(mode, "container:")
		if !ok {
			continue
		}
		if !validID(id) {
			return nil, fmt.Errorf("container %s shares a namespace of %.80q, which is no id", c.name(), id)
		}
		_, rec, state, err := c.k.other(id)
		if err != nil {
			return nil, fmt.Errorf("share a namespace of container %s: %w", short(id), err)
		}
		if state.PID == 0 {
			return nil, refuse("conflict", "container %s shares a namespace of %s, which is not running", c.name(), rec.Name)
		}
		if pids == nil {
			pids = make(map[string]int)
		}
		pids[id] = state.PID
	}
	return pids, nil
}

// other finds a container of any project, and what is known of it.
func (k *Keeper) other(id string) (project string, rec *engine.Container, state *engine.State, err error) {
	k.mu.Lock()
	c := k.containers[id]
	k.mu.Unlock()
	if c != nil {
		return k.o.Project, c.rec, c.snapshot.Load(), nil
	}
	projects, err := store.Names(k.o.Layout.Projects())
	if err != nil {
		return "", nil, nil, err
	}
	for _, p := range projects {
		rec, err := k.o.Layout.LoadContainer(p, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", nil, nil, err
		}
		state, err := k.o.Layout.LoadState(p, id)
		if err == nil && state.BootID != bootID() {
			state.PID = 0
		}
		return p, rec, state, err
	}
	return "", nil, nil, refuse("not-found", "no such container")
}

// shared tells whether a living container of this project uses c's namespace.
func (c *container) shared() bool {
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	for _, o := range c.k.containers {
		if o.rec.Spec.NetworkMode == "container:"+c.id && o.lives.Load() {
			return true
		}
	}
	return false
}

// renew makes the place of a container that is about to restart: a fresh
// namespace with the same addresses, because a used one makes servers fail on
// sockets in TIME_WAIT; the same one where another container lives in it.
func (c *container) renew(ctx context.Context) error {
	mode := c.rec.Spec.NetworkMode
	if mode == "host" || strings.HasPrefix(mode, "container:") || c.place.ns == nil && mode != "none" && len(c.rec.Spec.Endpoints) == 0 {
		return nil
	}
	if c.shared() {
		return nil
	}
	c.closeSandbox()
	return c.connect(ctx)
}

// closeSandbox lets the namespace go, and the resolver in it.
func (c *container) closeSandbox() {
	if c.place.quiet != nil {
		c.place.quiet()
	}
	c.endConnections()
	closeFiles([]*os.File{c.place.ns, c.place.udp, c.place.tcp})
	c.place.ns, c.place.udp, c.place.tcp, c.place.quiet = nil, nil, nil, nil
	_ = c.k.o.Keep.Drop(c.kept("netns"), c.kept("dnsu"), c.kept("dnst"))
}

// endConnections ends what the container's dead processes left half-closed: it
// would keep the namespace, and the links in it, for minutes.
func (c *container) endConnections() {
	if c.place.ns == nil || len(c.place.Endpoints) == 0 || c.shared() {
		return
	}
	host, err := c.k.network()
	if err != nil {
		return // there is no network to leave links on
	}
	if t, ok := host.(interface{ End(ns *os.File) error }); ok {
		if err := t.End(c.place.ns); err != nil {
			c.k.log("container %s: end connections: %v", c.name(), err)
		}
	}
}

// disconnect gives the place back; errors are left for remove to meet again.
func (c *container) disconnect(ctx context.Context) {
	if c.place.ns != nil && c.shared() {
		return // until the last one leaves; remove takes it in any case
	}
	if err := c.release(ctx); err != nil {
		c.k.log("container %s: %v", c.name(), err)
	}
}

func (c *container) release(ctx context.Context) error {
	c.closeSandbox()
	c.passOn()
	if len(c.place.Endpoints) == 0 && len(c.place.Publications) == 0 {
		return nil
	}
	host, err := c.k.network()
	if err != nil {
		return err
	}
	var errs []error
	if len(c.place.Publications) > 0 {
		errs = append(errs, host.Unpublish(ctx, c.place.Publications))
	}
	closeFiles(c.place.ports)
	_ = c.k.o.Keep.Drop(c.kept("port/"))
	for _, ep := range c.place.Endpoints {
		errs = append(errs, host.Detach(ctx, ep))
	}
	c.place = place{}
	_ = store.Remove(c.placePath())
	return errors.Join(errs...)
}

// disconnectAll gives back whatever the container may have on any network,
// though nothing were recorded here: for remove.
func (c *container) disconnectAll(ctx context.Context) error {
	if err := c.release(ctx); err != nil {
		return err
	}
	names, err := c.attached()
	if err != nil || len(names) == 0 {
		return err
	}
	host, err := c.k.network()
	if err != nil {
		return err
	}
	for _, n := range names {
		var pubs []netdns.Publication
		_ = c.k.o.Layout.Records().Read("networks/"+n+"/ports/"+c.id, &pubs)
		err = errors.Join(err,
			host.Unpublish(ctx, pubs),
			host.Detach(ctx, netdns.Endpoint{Network: n, Container: c.id, Project: c.rec.Project, Name: c.name()}))
	}
	return err
}

// attached are the networks that have a record of this container.
func (c *container) attached() ([]string, error) {
	names, err := store.Names(c.k.o.Layout.Networks())
	if err != nil {
		return nil, err
	}
	var found []string
	for _, n := range names {
		for _, kind := range []string{"endpoints", "ports"} {
			if _, err := os.Lstat(c.k.o.Layout.Network(n) + "/" + kind + "/" + c.id); err == nil {
				found = append(found, n)
				break
			}
		}
	}
	return found, nil
}
