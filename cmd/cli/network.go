package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
)

// newNetwork is the command about networks, of projects and of none.
func newNetwork(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "network",
		Short: "Manage networks",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newNetworkConnect(g), newNetworkCreate(g), newNetworkDisconnect(g), newNetworkInspect(g),
		newNetworkLs(g), newNetworkPrune(g), newNetworkRm(g))
	return c
}

type networkListOptions struct {
	quiet, noTrunc bool
	format         string
	filter         []string
}

func newNetworkLs(g *globals) *cobra.Command {
	var o networkListOptions
	c := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runNetworkLs(c.Context(), g, o) },
	}
	f := c.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only display network IDs")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	f.StringVar(&o.format, "format", "table", formatHelp)
	f.StringArrayVarP(&o.filter, "filter", "f", nil, `Provide filter values (such as "driver=bridge", "name=web", "label=team=blue", "dangling=true")`)
	return c
}

func runNetworkLs(ctx context.Context, g *globals, o networkListOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.filteredNetworks(ctx, o.filter)
	if err != nil {
		return err
	}
	t := render.Table{Columns: []render.Column{{Head: "NETWORK ID", Key: "ID"}, {Head: "NAME", Key: "Name"},
		{Head: "DRIVER", Key: "Driver"}, {Head: "SCOPE", Key: "Scope"}}}
	for _, n := range all {
		id := n.ID
		if !o.noTrunc {
			id = id[:min(12, len(id))]
		}
		if o.quiet {
			fmt.Fprintln(g.out, id)
			continue
		}
		t.Rows = append(t.Rows, map[string]any{
			"ID": id, "Name": n.Name, "Driver": driverOf(n), "Scope": "local", "Labels": render.Labels(n.Labels),
			"Internal": fmt.Sprint(n.Internal), "IPv4": fmt.Sprint(!n.NoIPv4), "IPv6": fmt.Sprint(n.IPv6), "CreatedAt": n.Created.Local().String(),
		})
	}
	if o.quiet {
		return nil
	}
	return t.Print(g.out, o.format)
}

func driverOf(n engine.Network) string {
	if n.Driver == "" || n.Driver == "default" {
		return "bridge"
	}
	return n.Driver
}

// filteredNetworks are the host's networks that every kind of filter lets
// through; of several filters of one kind, any.
func (s *session) filteredNetworks(ctx context.Context, filters []string) ([]engine.Network, error) {
	all, err := s.engine.AllNetworks(ctx)
	if err != nil {
		return nil, err
	}
	kinds := map[string][]string{}
	for _, f := range filters {
		kind, value, ok := strings.Cut(f, "=")
		if !ok || !slices.Contains([]string{"name", "id", "driver", "label", "dangling", "scope", "type"}, kind) {
			return nil, fmt.Errorf("invalid filter %q: use name=, id=, driver=, label=, dangling=, scope= or type=", f)
		}
		kinds[kind] = append(kinds[kind], value)
	}
	return slices.DeleteFunc(all, func(n engine.Network) bool {
		for kind, values := range kinds {
			if !slices.ContainsFunc(values, func(v string) bool { return s.networkIs(n, kind, v) }) {
				return true
			}
		}
		return false
	}), nil
}

func (s *session) networkIs(n engine.Network, kind, value string) bool {
	switch kind {
	case "name":
		return strings.Contains(n.Name, value)
	case "id":
		return strings.HasPrefix(n.ID, value)
	case "driver":
		return driverOf(n) == value
	case "scope":
		return value == "local"
	case "type":
		return value == "custom"
	case "dangling":
		return (len(s.engine.Users(n.Name)) == 0) == saysYes(value)
	}
	return labelMatches(n.Labels, value)
}

type networkCreateOptions struct {
	driver, ipamDriver                  string
	options, labels, ipamOptions        map[string]string
	internal, attachable, ipv6          bool
	ipv4                                bool
	subnets, ranges, gateways, reserved []string
}

func newNetworkCreate(g *globals) *cobra.Command {
	var o networkCreateOptions
	c := &cobra.Command{
		Use: "create [OPTIONS] NETWORK", Short: "Create a network", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runNetworkCreate(c.Context(), g, o, args[0]) },
	}
	f := c.Flags()
	f.StringVarP(&o.driver, "driver", "d", "bridge", "Driver to manage the Network")
	f.StringToStringVarP(&o.options, "opt", "o", nil, "Set driver specific options")
	f.StringArrayVar(&o.subnets, "subnet", nil, "Subnet in CIDR format that represents a network segment")
	f.StringArrayVar(&o.ranges, "ip-range", nil, "Allocate container ip from a sub-range")
	f.StringArrayVar(&o.gateways, "gateway", nil, "IPv4 or IPv6 Gateway for the master subnet")
	f.StringArrayVar(&o.reserved, "aux-address", nil, "Auxiliary IPv4 or IPv6 addresses used by Network driver")
	f.BoolVar(&o.internal, "internal", false, "Restrict external access to the network")
	f.BoolVar(&o.attachable, "attachable", false, "Enable manual container attachment")
	f.BoolVar(&o.ipv4, "ipv4", true, "Enable or disable IPv4 address assignment")
	f.BoolVar(&o.ipv6, "ipv6", false, "Enable or disable IPv6 address assignment")
	f.StringToStringVar(&o.labels, "label", nil, "Set metadata on a network")
	f.StringVar(&o.ipamDriver, "ipam-driver", "default", "IP Address Management Driver")
	f.StringToStringVar(&o.ipamOptions, "ipam-opt", nil, "Set IPAM driver specific options")
	return c
}

// runNetworkCreate makes a network of no project and prints its id.
func runNetworkCreate(ctx context.Context, g *globals, o networkCreateOptions, name string) error {
	if o.ipamDriver != "default" {
		return fmt.Errorf("--ipam-driver %s: davit leases addresses itself; use default", o.ipamDriver)
	}
	pools, err := poolsOf(o)
	if err != nil {
		return err
	}
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	n := engine.Network{Name: name, Driver: o.driver, Internal: o.internal, Attachable: o.attachable, NoIPv4: !o.ipv4,
		IPv6: o.ipv6, Options: o.options, Labels: o.labels, IPAM: pools, IPAMOpts: o.ipamOptions}
	id, err := s.engine.MakeNetwork(ctx, n)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(g.out, id)
	return err
}

type networkConnectOptions struct {
	endpoint engine.EndpointSpec
	options  map[string]string
}

func newNetworkConnect(g *globals) *cobra.Command {
	var o networkConnectOptions
	c := &cobra.Command{
		Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Connect a container to a network", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runNetworkConnect(c.Context(), g, o, args[0], args[1])
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.endpoint.Aliases, "alias", nil, "Add network-scoped alias for the container")
	f.StringVar(&o.endpoint.IPv4, "ip", "", `IPv4 address (e.g., "172.30.100.104")`)
	f.StringVar(&o.endpoint.IPv6, "ip6", "", `IPv6 address (e.g., "2001:db8::33")`)
	f.StringArrayVar(&o.endpoint.LinkAliases, "link", nil, "Add link to another container")
	f.StringArrayVar(&o.endpoint.LinkLocal, "link-local-ip", nil, "Add a link-local address for the container")
	f.IntVar(&o.endpoint.GWPriority, "gw-priority", 0, "Highest gw-priority provides the default gateway. Accepts positive and negative values.")
	f.StringToStringVar(&o.options, "driver-opt", nil, "driver options for the network")
	return c
}

// runNetworkConnect puts a container on a network while it runs.
func runNetworkConnect(ctx context.Context, g *globals, o networkConnectOptions, network, container string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	n, err := s.engine.FindNetwork(ctx, network)
	if err != nil {
		return err
	}
	ep := o.endpoint
	ep.Network, ep.DriverOpts = n.Name, o.options
	if err := s.engine.Connect(ctx, container, ep); err != nil {
		return fmt.Errorf("connect to network %s: %w", n.Name, err)
	}
	return nil
}

func newNetworkDisconnect(g *globals) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return runNetworkDisconnect(c.Context(), g, force, args[0], args[1])
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Force the container to disconnect from a network")
	return c
}

// runNetworkDisconnect takes a container off a network while it runs. With
// force, one that is not on it is no error.
func runNetworkDisconnect(ctx context.Context, g *globals, force bool, network, container string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	n, err := s.engine.FindNetwork(ctx, network)
	if err != nil {
		return err
	}
	if force && !slices.Contains(s.engine.Users(n.Name), container) {
		return nil
	}
	if err := s.engine.Disconnect(ctx, container, n.Name); err != nil {
		return fmt.Errorf("disconnect from network %s: %w", n.Name, err)
	}
	return nil
}

func newNetworkRm(g *globals) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "rm NETWORK [NETWORK...]", Aliases: []string{"remove"}, Short: "Remove one or more networks", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runNetworkRm(c.Context(), g, force, args) },
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	return c
}

// runNetworkRm removes networks that nothing is on, each whatever becomes of
// the others.
func runNetworkRm(ctx context.Context, g *globals, force bool, names []string) error {
	return g.removeEach(names, func(s *session, name string) error {
		n, err := s.engine.FindNetwork(ctx, name)
		if force && isNoNetwork(err) {
			return errSkip
		}
		if err != nil {
			return err
		}
		return s.engine.DropNetwork(ctx, n)
	})
}

type networkPruneOptions struct {
	force  bool
	filter []string
}

func newNetworkPrune(g *globals) *cobra.Command {
	var o networkPruneOptions
	c := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove all unused networks", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runNetworkPrune(c.Context(), g, o) },
	}
	c.Flags().BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	c.Flags().StringArrayVar(&o.filter, "filter", nil, `Provide filter values (such as "label=team=blue", "label!=keep", "until=24h")`)
	return c
}

// runNetworkPrune removes the networks that no container, running or not, is
// defined to be on.
func runNetworkPrune(ctx context.Context, g *globals, o networkPruneOptions) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	if !o.force {
		yes, err := s.ask(ctx, "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?")
		if err != nil || !yes {
			return err
		}
	}
	all, err := s.engine.AllNetworks(ctx)
	if err != nil {
		return err
	}
	var gone []string
	var wrong []error
	for _, n := range all {
		prune, err := prunable(n, o.filter)
		if err != nil {
			return err
		}
		if !prune || len(s.engine.Users(n.Name)) > 0 {
			continue
		}
		if err := s.engine.DropNetwork(ctx, n); err != nil {
			wrong = append(wrong, err)
			continue
		}
		gone = append(gone, n.Name)
	}
	if len(gone) > 0 {
		io.WriteString(g.out, "Deleted Networks:\n"+strings.Join(gone, "\n")+"\n\n")
	}
	return errors.Join(wrong...)
}
