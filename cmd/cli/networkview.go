package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/local"
)

// isNoNetwork says whether an error is only that there is no such network.
func isNoNetwork(err error) bool { return errors.Is(err, local.ErrNoNetwork) }

// A networkJSON is a network as `docker network inspect` shows it.
type networkJSON struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       ipamJSON
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]placeJSON
	Options    map[string]string
	Labels     map[string]string
}

type ipamJSON struct {
	Driver  string
	Options map[string]string
	Config  []poolJSON
}

type poolJSON struct {
	Subnet             string            `json:",omitempty"`
	IPRange            string            `json:",omitempty"`
	Gateway            string            `json:",omitempty"`
	AuxiliaryAddresses map[string]string `json:"AuxiliaryAddresses,omitempty"`
}

type placeJSON struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

func newNetworkInspect(g *globals) *cobra.Command {
	var format string
	var verbose bool
	c := &cobra.Command{
		Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Display detailed information on one or more networks", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runNetworkInspect(c.Context(), g, format, args) },
	}
	c.Flags().StringVarP(&format, "format", "f", "", formatHelp)
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Verbose output for diagnostics")
	return c
}

// runNetworkInspect prints networks as one JSON array, or each through a
// template. Those that are missing are told of at the end.
func runNetworkInspect(ctx context.Context, g *globals, format string, names []string) error {
	return g.inspectEach(format, names, func(s *session, name string) (any, error) {
		n, err := s.engine.FindNetwork(ctx, name)
		if err != nil {
			return nil, err
		}
		v, err := s.engine.ViewNetwork(ctx, n)
		return inspected(v), err
	})
}

func inspected(v local.NetworkView) networkJSON {
	n := networkJSON{
		Name: v.Name, ID: v.ID, Created: v.Created, Scope: "local", Driver: driverOf(v.Network),
		EnableIPv4: !v.NoIPv4, EnableIPv6: v.IPv6, Internal: v.Internal, Attachable: v.Attachable,
		IPAM:       ipamJSON{Driver: "default", Options: filled(v.IPAMOpts), Config: []poolJSON{}},
		Containers: map[string]placeJSON{}, Options: filled(v.Options), Labels: filled(v.Labels),
	}
	for _, p := range v.Pools {
		j := poolJSON{Subnet: p.Subnet.String()}
		if p.Range.IsValid() {
			j.IPRange = p.Range.String()
		}
		if p.Gateway.IsValid() {
			j.Gateway = p.Gateway.String()
		}
		for name, a := range p.Aux {
			if j.AuxiliaryAddresses == nil {
				j.AuxiliaryAddresses = map[string]string{}
			}
			j.AuxiliaryAddresses[name] = a.String()
		}
		n.IPAM.Config = append(n.IPAM.Config, j)
	}
	for _, p := range v.Places {
		n.Containers[p.Container] = placeJSON{Name: p.Name, EndpointID: endpointID(p.Container, v.ID),
			MacAddress: p.MAC, IPv4Address: p.IPv4, IPv6Address: p.IPv6}
	}
	return n
}

func filled(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// poolsOf pairs the flags of subnets, as docker does: a range, gateway or
// reserved address belongs to the subnet that holds it.
func poolsOf(o networkCreateOptions) ([]engine.Pool, error) {
	var pools []engine.Pool
	var nets []netip.Prefix
	for _, s := range o.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--subnet %s: %w", s, err)
		}
		pools, nets = append(pools, engine.Pool{Subnet: s}), append(nets, p)
	}
	find := func(flag, value string, a netip.Addr, err error) (*engine.Pool, error) {
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", flag, value, err)
		}
		for i, n := range nets {
			if n.Contains(a) {
				return &pools[i], nil
			}
		}
		return nil, fmt.Errorf("%s %s: no --subnet holds it", flag, value)
	}
	for _, r := range o.ranges {
		p, err := netip.ParsePrefix(r)
		at, err := find("--ip-range", r, p.Addr(), err)
		if err != nil {
			return nil, err
		}
		at.Range = r
	}
	for _, g := range o.gateways {
		a, err := netip.ParseAddr(g)
		at, err := find("--gateway", g, a, err)
		if err != nil {
			return nil, err
		}
		at.Gateway = g
	}
	for _, aux := range o.reserved {
		name, value, ok := strings.Cut(aux, "=")
		if !ok {
			return nil, fmt.Errorf("--aux-address %s: write NAME=ADDRESS", aux)
		}
		a, err := netip.ParseAddr(value)
		at, err := find("--aux-address", value, a, err)
		if err != nil {
			return nil, err
		}
		if at.Aux == nil {
			at.Aux = engine.Options{}
		}
		at.Aux[name] = value
	}
	return pools, nil
}

// prunable holds a network against the filters of prune.
func prunable(n engine.Network, filters []string) (bool, error) {
	for _, f := range filters {
		kind, value, ok := strings.Cut(f, "=")
		switch {
		case !ok:
			return false, fmt.Errorf("invalid filter %q: use until=, label= or label!=", f)
		case kind == "label" && !labelMatches(n.Labels, value),
			kind == "label!" && labelMatches(n.Labels, value):
			return false, nil
		case kind == "until":
			before, err := until(value)
			if err != nil {
				return false, err
			}
			if n.Created.After(before) {
				return false, nil
			}
		case kind != "label" && kind != "label!":
			return false, fmt.Errorf("invalid filter %q: use until=, label= or label!=", f)
		}
	}
	return true, nil
}

// until is a moment given as a duration back from now, or as a date.
func until(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("until=%s: write a duration such as 24h, or a date such as 2006-01-02T15:04:05Z", s)
	}
	return t, nil
}

// endpointID names a container's place on a network: as docker's, 64 hex digits
// that mean nothing else.
func endpointID(container, network string) string {
	sum := sha256.Sum256([]byte(container + " " + network))
	return hex.EncodeToString(sum[:])
}
