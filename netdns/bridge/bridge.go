package bridge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns/sandbox"
)

// Links changes the links of one network namespace over a kept socket. It is
// safe for concurrent use.
type Links struct {
	handle *netlink.Handle
	sock   map[int]*nl.SocketHandle
}

// Open returns the links of the namespace that the calling thread is in.
func Open() (*Links, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return &Links{handle: h, sock: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

// Close gives the sockets back.
func (l *Links) Close() {
	l.handle.Close()
	for _, s := range l.sock {
		s.Close()
	}
}

// A Spec says what a bridge is to be.
type Spec struct {
	Name      string
	Alias     string // what `ip link` shows, and what survives the records
	Also      string // a further name that tools find it by, empty: none; see ip-link(8), altname
	MTU       int    // 0: the kernel's default
	Addresses []netip.Prefix
}

// Make creates the bridge when it is missing, still down and without
// addresses: the caller sets its sysctls before Up.
func (l *Links) Make(s Spec) error {
	if link, err := l.handle.LinkByName(s.Name); err == nil {
		if link.Type() != "bridge" {
			return fmt.Errorf("make bridge %s: a %s has that name", s.Name, link.Type())
		}
		if link.Attrs().Alias != s.Alias {
			if err := l.SetAlias(s.Name, s.Alias); err != nil {
				return err
			}
		}
		return l.also(s)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = s.Name, s.MTU
	attrs.HardwareAddr = Hardware(netip.Addr{}, s.Name)
	err := l.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make bridge %s: %w", s.Name, err)
	}
	if err := l.SetAlias(s.Name, s.Alias); err != nil {
		return err
	}
	return l.also(s)
}

// also gives the bridge its further name, which no other link may have. Without
// it nothing stops working, but whoever asked for it would look at another link.
func (l *Links) also(s Spec) error {
	if s.Also == "" {
		return nil
	}
	link, err := l.handle.LinkByName(s.Name)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", s.Name, err)
	}
	if slices.Contains(link.Attrs().AltNames, s.Also) {
		return nil
	}
	err = l.handle.LinkAddAltName(link, s.Also)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("name bridge %s also %s: another link of this host is called so; choose another com.docker.network.bridge.name", s.Name, s.Also)
	}
	if err != nil {
		return fmt.Errorf("name bridge %s also %s: %w", s.Name, s.Also, err)
	}
	return nil
}

// SetAlias writes a link's alias.
func (l *Links) SetAlias(name, alias string) error {
	if alias == "" {
		return nil
	}
	req := l.set(name, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias)))
	return l.do(req, "describe link "+name)
}

// Up gives the bridge its addresses and brings it up. Again changes nothing.
func (l *Links) Up(s Spec) error {
	link, err := l.handle.LinkByName(s.Name)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", s.Name, err)
	}
	for _, p := range s.Addresses {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // nobody else can have it; and it works at once
		}
		if err := l.handle.AddrReplace(link, a); err != nil {
			return fmt.Errorf("address bridge %s with %s: %w", s.Name, p, err)
		}
	}
	if err := l.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up bridge %s: %w", s.Name, err)
	}
	return nil
}

// Remove deletes a link; one that is not there is no error.
func (l *Links) Remove(name string) error {
	req := l.request(unix.RTM_DELLINK, 0, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err := l.do(req, "remove link "+name); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// A Link is one link of the namespace.
type Link struct {
	Name, Alias, Kind string
	Index             int
	Up                bool
}

// List returns the links whose names begin with prefix.
func (l *Links) List(prefix string) ([]Link, error) {
	all, err := sandbox.Whole(l.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []Link
	for _, k := range all {
		a := k.Attrs()
		if strings.HasPrefix(a.Name, prefix) {
			up := a.Flags&net.FlagUp != 0
			out = append(out, Link{Name: a.Name, Alias: a.Alias, Kind: k.Type(), Index: a.Index, Up: up})
		}
	}
	return out, nil
}

// Routed returns every prefix that the namespace has a route or an address for,
// the default routes left out.
func (l *Links) Routed() ([]netip.Prefix, error) {
	var out []netip.Prefix
	routes, err := sandbox.Whole(func() ([]netlink.Route, error) {
		return l.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.Type == unix.RTN_MULTICAST {
			continue
		}
		if p, ok := prefix(r.Dst); ok && p.Bits() > 0 {
			out = append(out, p)
		}
	}
	return out, nil
}

// Settle returns once packets pass through the named links, or after a second.
// A link whose other end came up drops what it is given until the kernel's link
// watch has run, which on a busy host takes long enough to lose a container's
// first packet. Asking for the link makes the kernel run it at once (since
// Linux 6.8; before that, asking again is waiting).
func (l *Links) Settle(names ...string) error {
	for end := time.Now().Add(time.Second); len(names) > 0; {
		link, err := l.handle.LinkByName(names[0])
		if err != nil {
			return fmt.Errorf("find link %s: %w", names[0], err)
		}
		if s := link.Attrs().OperState; s == netlink.OperUp || s == netlink.OperUnknown || time.Now().After(end) {
			names = names[1:]
			continue
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// SettleIPv6 returns once the link has a link-local address that it can ask for
// neighbours from, or after a second: it gets one when its first port comes up.
func (l *Links) SettleIPv6(name string) error {
	link, err := l.handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		have, err := l.handle.AddrList(link, netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("look at addresses of %s: %w", name, err)
		}
		for _, a := range have {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return nil
			}
		}
	}
	return nil // late, but not lost
}

// Index returns the number of the named link.
func (l *Links) Index(name string) (int, error) {
	link, err := l.handle.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find link %s: %w", name, err)
	}
	return link.Attrs().Index, nil
}

// Hardware derives a link's address from its IPv4 address, so that a restarted
// container keeps what its neighbours remember; or else from a name.
func Hardware(a netip.Addr, name string) net.HardwareAddr {
	if a.Is4() {
		b := a.As4()
		return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
	}
	sum := sha256.Sum256([]byte(a.String() + name))
	return net.HardwareAddr{0x02, 0xda, sum[0], sum[1], sum[2], sum[3]}
}

func (l *Links) request(kind, flags int, index int32, up uint32) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK|flags)
	req.Sockets = l.sock
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = index, up, up
	req.AddData(msg)
	return req
}

// set begins a change of the named link: the kernel finds it by name, which
// saves asking for its index.
func (l *Links) set(name string, index int, up uint32) *nl.NetlinkRequest {
	req := l.request(unix.RTM_NEWLINK, 0, int32(index), up)
	if index == 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	return req
}

func (l *Links) do(req *nl.NetlinkRequest, what string) error {
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones).Masked(), ok
}

// Exists says whether there is a link of that name.
func (l *Links) Exists(name string) bool {
	_, err := l.handle.LinkByName(name)
	return err == nil
}

// A Plug is one container's connection to a bridge.
type Plug struct {
	Bridge string // name of the bridge
	Host   string // name of the end on the host
	Inside string // name of the end in the container
	MAC    net.HardwareAddr
	MTU    int
	Alone  bool // it reaches no other port of the bridge that is alone too
}

// Plug makes a veth pair whose one end is born inside namespace ns, in a single
// RTM_NEWLINK: moving a link there afterwards waits for several RCU grace
// periods. The host's end joins the bridge in hairpin mode, so that a container
// reaches the ports it publishes itself even where br_netfilter is on.
func (l *Links) Plug(ns *os.File, p Plug) error {
	index, err := l.Index(p.Bridge)
	if err != nil {
		return err
	}
	if err := l.do(l.pair(ns, p), "make veth "+p.Host); err != nil {
		return err
	}
	// A port needs no address of its own: no duplicate detection, no MLD reports.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+p.Host+"/disable_ipv6", []byte("1"), 0)
	req := l.set(p.Host, 0, unix.IFF_UP)
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(index))))
	if err := l.do(req, "plug "+p.Host+" into "+p.Bridge); err != nil {
		return errors.Join(err, l.Remove(p.Host))
	}
	if err := l.do(l.hairpin(p.Host, p.Alone), "set hairpin mode of "+p.Host); err != nil {
		return errors.Join(err, l.Remove(p.Host))
	}
	return nil
}

func (l *Links) pair(ns *os.File, p Plug) *nl.NetlinkRequest {
	req := l.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, 0)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.Inside)))
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd()))))
	if p.MAC != nil {
		req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, p.MAC))
	}
	if p.MTU > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.MTU))))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(p.Host))
	if p.MTU > 0 {
		peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(p.MTU)))
	}
	req.AddData(info)
	return req
}

// hairpin is sent apart: the kernel takes a port's settings only once it is one.
func (l *Links) hairpin(name string, alone bool) *nl.NetlinkRequest {
	req := l.set(name, 0, 0)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
	data.AddRtAttr(nl.IFLA_BRPORT_MODE, []byte{1})
	if alone {
		data.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, []byte{1})
	}
	req.AddData(info)
	return req
}
