package cli

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

type portOptions struct {
	index    int
	protocol string
}

func newPort(g *globals) *cobra.Command {
	var o portOptions
	c := &cobra.Command{
		Use:   "port [OPTIONS] SERVICE [PRIVATE_PORT]",
		Short: "List port mappings or print the public port for a specific mapping for the service",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return runPort(c.Context(), g, o, args)
		},
	}
	c.Flags().IntVar(&o.index, "index", 0, "Index of the container if service has multiple replicas")
	c.Flags().StringVar(&o.protocol, "protocol", "tcp", "tcp or udp")
	return c
}

// runPort prints where a container's port is published, or all of them.
func runPort(ctx context.Context, g *globals, o portOptions, args []string) error {
	s, err := g.glance(ctx, args[:1])
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	a, err := s.running(args[0], o.index)
	if err != nil {
		return err
	}
	return s.ports(a, o, args[1:])
}

// ports prints where the ports of a container are published, or the one named.
func (s *session) ports(a reconcile.ActualContainer, o portOptions, args []string) error {
	if len(args) == 0 {
		for _, b := range a.State.Ports {
			fmt.Fprintf(s.out, "%d/%s -> %s\n", b.ContainerPort, b.Protocol, hostPort(b))
		}
		return nil
	}
	text, protocol, ok := strings.Cut(args[0], "/")
	if !ok {
		protocol = o.protocol
	}
	private, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q: not a port", args[0])
	}
	for _, b := range a.State.Ports {
		if b.ContainerPort == uint16(private) && b.Protocol == strings.ToLower(protocol) {
			_, err := fmt.Fprintln(s.out, hostPort(b))
			return err
		}
	}
	return fmt.Errorf("no port %d/%s for container %s", private, protocol, a.Name)
}

// hostPort is where a port is published: 0.0.0.0:PORT for all addresses.
func hostPort(b engine.Bound) string {
	host := b.HostIP
	if host == "" {
		host = "0.0.0.0"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(b.HostPort)))
}
