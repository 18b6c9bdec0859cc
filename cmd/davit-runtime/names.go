package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/davit-run/davit/engine/keeper"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/attach"
	"github.com/davit-run/davit/netdns/resolver"
)

// names answers containers' questions from the records of their networks.
type names struct {
	rec *store.Records
	mu  sync.Mutex
	dir *resolver.Directory
}

// Open makes the sockets in a namespace.
func (n *names) Open(ns *os.File) (udp, tcp *os.File, err error) {
	s, err := resolver.Open(ns)
	if err != nil {
		return nil, nil, err
	}
	return s.UDP, s.TCP, nil
}

// look has a container's record on a network read anew, if anybody is answered
// from it.
func (n *names) look(ep netdns.Endpoint) {
	n.mu.Lock()
	dir := n.dir
	n.mu.Unlock()
	if dir != nil {
		dir.Look(ep.Network, ep.Container)
	}
}

// Serve answers on the sockets.
func (n *names) Serve(ctx context.Context, udp, tcp *os.File, who keeper.Asker) error {
	n.mu.Lock()
	var err error
	if n.dir == nil {
		n.dir, err = resolver.OpenDirectory(n.rec)
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	c := resolver.Config{Container: who.Container.ID, Project: who.Container.Project, Directory: n.dir, NS: who.NetNS, Internal: who.Internal}
	for _, ep := range who.Endpoints {
		c.Networks = append(c.Networks, ep.Network)
		c.LinkAliases = append(c.LinkAliases, ep.LinkAliases...)
	}
	for _, s := range who.Container.Spec.DNS {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("dns server %q: %w", s, err)
		}
		c.Servers = append(c.Servers, netip.AddrPortFrom(a, 53))
	}
	options(&c, who.Container.Spec.DNSOptions)
	return resolver.Serve(ctx, &resolver.Sockets{UDP: udp, TCP: tcp}, c)
}

// options are those of resolv.conf(5) that say how servers are asked.
func options(c *resolver.Config, words []string) {
	for _, o := range words {
		name, value, _ := strings.Cut(o, ":")
		n, err := strconv.Atoi(value)
		switch {
		case name == "rotate":
			c.Rotate = true
		case err != nil || n < 1:
		case name == "timeout":
			c.Timeout = time.Duration(min(n, 30)) * time.Second // RES_MAXRETRANS
		case name == "attempts":
			c.Attempts = min(n, 5) // RES_MAXRETRY
		}
	}
}

// A network is the host's, and has the keeper's own resolver know of every change
// when it is made: whoever asks once a command has returned is told how things
// are, whenever the watch on the records gets its turn.
type network struct {
	*attach.Host
	known *names
}

// Attach is the host's.
func (n *network) Attach(ctx context.Context, ns *os.File, ep netdns.Endpoint) (netdns.Endpoint, error) {
	at, err := n.Host.Attach(ctx, ns, ep)
	n.known.look(ep)
	return at, err
}

// Detach is the host's.
func (n *network) Detach(ctx context.Context, ep netdns.Endpoint) error {
	defer n.known.look(ep)
	return n.Host.Detach(ctx, ep)
}

// Disconnect is the host's.
func (n *network) Disconnect(ctx context.Context, ns *os.File, ep netdns.Endpoint) error {
	defer n.known.look(ep)
	return n.Host.Disconnect(ctx, ns, ep)
}

// Rename is the host's.
func (n *network) Rename(ctx context.Context, ep netdns.Endpoint) error {
	defer n.known.look(ep)
	return n.Host.Rename(ctx, ep)
}
