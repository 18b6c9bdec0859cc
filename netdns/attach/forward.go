package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/bridge"
	"github.com/davit-run/davit/netdns/ipam"
	"github.com/davit-run/davit/netdns/sandbox"
)

// Forwarding is a setting of the whole host that several installations may
// need at once. Whoever found it off says so in the alias of the bridge it makes,
// before it changes anything; every later bridge of any installation inherits
// the marks, and so does an older one when one with marks goes; who removes the
// last bridge puts the settings back. So the kernel
// itself remembers: neither a crash nor a lost record leaves forwarding on.
const (
	markIPv4   = "fwd4"
	markIPv6   = "fwd6"
	markUplink = "ra=" // and the name of a link whose accept_ra was 1

	ipForward  = "ipv4/ip_forward"
	ip6Forward = "ipv6/conf/all/forwarding"

	mostAlias = 255 // IFALIASZ less the final NUL
)

// A setting is one sysctl below net/ and the value it is to have.
type setting struct{ path, value string }

// forward finds out which sysctls must change for the network, and returns the
// changes and the alias of the network's bridge, which remembers what they were.
// The changes wait until the rules stand: no packet is forwarded unguarded.
func (h *Host) forward(r runtime) (string, []setting, error) {
	marks, err := h.marks("")
	if err != nil {
		return "", nil, err
	}
	var todo []setting
	if !r.Internal && off(ipForward) {
		marks = append(marks, markIPv4)
		todo = append(todo, setting{ipForward, "1"})
	}
	if !r.Internal && len(ipam.Family(r.Network, true)) > 0 && off(ip6Forward) {
		marks = append(marks, markIPv6)
		uplinks, err := h.uplinks()
		if err != nil {
			return "", nil, err
		}
		for _, name := range uplinks {
			marks = append(marks, markUplink+name)
			todo = append(todo, setting{acceptRA(name), "2"})
		}
		todo = append(todo, setting{ip6Forward, "1"})
	}
	return aliasOf(r.Name, marks), todo, nil
}

// aliasOf describes a bridge. The network's name is cut where the marks would
// not fit.
func aliasOf(network string, marks []string) string {
	slices.Sort(marks)
	words := strings.Join(slices.Compact(marks), " ")
	if most := mostAlias - len("davit  ") - len(words); len(network) > max(1, most) {
		network = network[:max(1, most)]
	}
	return strings.TrimSpace("davit " + network + " " + words)
}

func off(path string) bool {
	v, err := sysctl(path)
	return err == nil && v == "0"
}

func acceptRA(link string) string { return "ipv6/conf/" + link + "/accept_ra" }

// uplinks are the links that believe router advertisements, and must go on
// doing so when IPv6 forwarding comes on: the kernel stops listening at
// accept_ra=1, and the host would lose its default route.
func (h *Host) uplinks() ([]string, error) {
	all, err := h.links.List("")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range all {
		if strings.HasPrefix(l.Name, netdns.LinkPrefix) || l.Name == "lo" {
			continue
		}
		if v, err := sysctl(acceptRA(l.Name)); err == nil && v == "1" {
			out = append(out, l.Name)
		}
	}
	return out, nil
}

// restore puts the sysctls back when no bridge of any installation is left but
// the one named except, which is about to go: a crash in between leaves its
// marks to the next who comes.
func (h *Host) restore(except string) error {
	left, err := h.links.List(netdns.LinkPrefix + "b")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(left, func(l bridge.Link) bool { return l.Name == except })
	if i < 0 {
		return nil
	}
	if len(left) > 1 {
		return h.bequeath(left[i], slices.Delete(slices.Clone(left), i, i+1))
	}
	for _, m := range marksOf(left[i]) {
		path, was := ip6Forward, "0"
		if link, ok := strings.CutPrefix(m, markUplink); ok {
			path, was = acceptRA(link), "1"
		} else if m == markIPv4 {
			path = ipForward
		} else if m != markIPv6 {
			continue
		}
		if err := optional(path, was); err != nil {
			return err
		}
	}
	return nil
}

// bequeath hands to one of the others what none of them remembers of a bridge
// that is about to go: those that are older than a mark have not inherited it.
func (h *Host) bequeath(from bridge.Link, others []bridge.Link) error {
	var known []string
	for _, o := range others {
		known = append(known, marksOf(o)...)
	}
	for _, m := range marksOf(from) {
		if slices.Contains(known, m) {
			continue
		}
		heir := others[0]
		network := ""
		if words := strings.Fields(heir.Alias); len(words) > 1 {
			network = words[1]
		}
		return h.links.SetAlias(heir.Name, aliasOf(network, append(marksOf(heir), marksOf(from)...)))
	}
	return nil
}

// marks collects what the bridges of all installations remember, but for one.
func (h *Host) marks(except string) ([]string, error) {
	all, err := h.links.List(netdns.LinkPrefix + "b")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range all {
		if l.Name != except {
			out = append(out, marksOf(l)...)
		}
	}
	return out, nil
}

// marksOf reads a bridge's alias: "davit NETWORK MARK...".
func marksOf(l bridge.Link) []string {
	words := strings.Fields(l.Alias)
	return words[min(2, len(words)):]
}

// guarding says whether the host forwards only because davit told it to: then
// the table drops what is not davit's.
func (h *Host) guarding() bool {
	marks, err := h.marks("")
	return err != nil || slices.Contains(marks, markIPv4) || slices.Contains(marks, markIPv6)
}

// together runs fn while no other davit of this network namespace, of whatever
// installation, makes its first bridge or removes its last: a lock on the
// sysctl itself, which all of them see and which leaves nothing behind.
func together(fn func() error) error {
	fd, err := unix.Open("/proc/sys/net/"+ipForward, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open sysctl net/%s: %w", ipForward, err)
	}
	defer unix.Close(fd)
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock sysctl net/%s: %w", ipForward, err)
	}
	return fn()
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
