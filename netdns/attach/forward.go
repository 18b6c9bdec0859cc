package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/ipam"
	"github.com/davit-run/davit/netdns/sandbox"
)

// Forwarding is a setting of the whole host that several installations may
// need at once. Whoever found it off writes so into its own records and into
// the alias of its bridge; every later bridge of any installation inherits the
// mark; who removes the last marked bridge puts the setting back.
const (
	markIPv4 = "fwd4"
	markIPv6 = "fwd6"

	ipForward  = "ipv4/ip_forward"
	ip6Forward = "ipv6/conf/all/forwarding"

	keySysctls = "host/sysctls"
)

// changed is the record of sysctls as they were before davit came.
type changed struct {
	Boot string            `json:"boot"` // another boot: all this is over
	Was  map[string]string `json:"was"`
}

// A setting is one sysctl below net/ and the value it is to have.
type setting struct{ path, value string }

// forward finds out which sysctls must change for the network, records what
// they were, and returns the changes and the alias of the network's bridge. The
// changes wait until the rules stand: no packet is forwarded unguarded.
func (h *Host) forward(r runtime) (string, []setting, error) {
	alias := "davit " + r.Name
	marks, err := h.marks()
	if err != nil || r.Internal {
		return alias, nil, err
	}
	var todo []setting
	if off(ipForward) {
		marks[markIPv4] = true
		todo = append(todo, setting{ipForward, "1"})
	}
	if len(ipam.Family(r.Network, true)) > 0 && off(ip6Forward) {
		marks[markIPv6] = true
		uplinks, err := h.keepAdvertisements()
		if err != nil {
			return alias, nil, err
		}
		todo = append(append(todo, uplinks...), setting{ip6Forward, "1"})
	}
	for _, m := range []string{markIPv4, markIPv6} {
		if marks[m] {
			alias += " " + m
		}
	}
	return alias, todo, h.remember(todo)
}

func off(path string) bool {
	v, err := sysctl(path)
	return err == nil && v == "0"
}

// keepAdvertisements makes uplinks go on believing router advertisements when
// IPv6 forwarding comes on: the kernel stops listening at accept_ra=1, and the
// host would lose its default route.
func (h *Host) keepAdvertisements() ([]setting, error) {
	all, err := h.links.List("")
	if err != nil {
		return nil, err
	}
	var todo []setting
	for _, l := range all {
		path := "ipv6/conf/" + l.Name + "/accept_ra"
		if strings.HasPrefix(l.Name, netdns.LinkPrefix) || l.Name == "lo" {
			continue
		}
		if v, err := sysctl(path); err == nil && v == "1" {
			todo = append(todo, setting{path, "2"})
		}
	}
	return todo, nil
}

// remember writes down what sysctls are before they are changed.
func (h *Host) remember(todo []setting) error {
	if len(todo) == 0 {
		return nil
	}
	c, err := h.changed()
	if err != nil {
		return err
	}
	for _, s := range todo {
		was, err := sysctl(s.path)
		if err != nil {
			return err
		}
		if _, known := c.Was[s.path]; !known {
			c.Was[s.path] = was
		}
	}
	return h.rec.Write(keySysctls, c)
}

func (h *Host) changed() (changed, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return changed{}, fmt.Errorf("read boot id: %w", err)
	}
	var c changed
	err = h.rec.Read(keySysctls, &c)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("read changed sysctls: %w", err)
	}
	if id := strings.TrimSpace(string(boot)); c.Boot != id || c.Was == nil {
		c = changed{Boot: id, Was: map[string]string{}}
	}
	return c, nil
}

// restore puts the sysctls back when no bridge of any installation is left.
// marks are those that were there before the last bridge went.
func (h *Host) restore(marks map[string]bool) error {
	left, err := h.links.List(netdns.LinkPrefix + "b")
	if err != nil || len(left) > 0 {
		return err
	}
	c, err := h.changed()
	if err != nil {
		return err
	}
	if marks[markIPv4] {
		c.Was[ipForward] = "0"
	}
	if marks[markIPv6] {
		c.Was[ip6Forward] = "0"
	}
	for path, was := range c.Was {
		// Another installation may have taken over: then its mark says so.
		if err := optional(path, was); err != nil {
			return err
		}
	}
	return h.rec.Remove(keySysctls)
}

// marks collects what the bridges of all installations remember.
func (h *Host) marks() (map[string]bool, error) {
	all, err := h.links.List(netdns.LinkPrefix + "b")
	if err != nil {
		return nil, err
	}
	marks := map[string]bool{}
	for _, l := range all {
		words := strings.Fields(l.Alias)
		for _, w := range words[min(2, len(words)):] {
			marks[w] = true
		}
	}
	return marks, nil
}

// guarding says whether the host forwards only because davit told it to: then
// the table drops what is not davit's.
func (h *Host) guarding() bool {
	marks, err := h.marks()
	if err != nil {
		return true
	}
	c, err := h.changed()
	if err != nil {
		return true
	}
	_, four := c.Was[ipForward]
	_, six := c.Was[ip6Forward]
	return marks[markIPv4] || marks[markIPv6] || four || six
}

func sysctl(path string) (string, error) {
	b, err := os.ReadFile("/proc/sys/net/" + path)
	if err != nil {
		return "", fmt.Errorf("read sysctl net/%s: %w", path, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// optional writes a sysctl that the kernel need not have.
func optional(path, value string) error {
	if err := sandbox.Sysctl(path, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
