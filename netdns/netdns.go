package netdns

import (
	"net/netip"
	"slices"
	"time"
)

// A Network is one bridge and everything that belongs to it. Its Name is
// unique on the host; the names of its kernel objects are derived from its ID.
type Network struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Driver   string            `json:"driver,omitempty"` // bridge when empty
	Internal bool              `json:"internal,omitempty"`
	NoIPv4   bool              `json:"noIPv4,omitempty"`
	IPv6     bool              `json:"ipv6,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Pools    []Pool            `json:"pools,omitempty"` // as given out: never empty once made
}

// The driver options that davit knows, by Docker's names. Others have no effect.
const (
	OptMTU        = "com.docker.network.driver.mtu"
	OptMasquerade = "com.docker.network.bridge.enable_ip_masquerade" // false: containers leave with their own addresses
	OptTalk       = "com.docker.network.bridge.enable_icc"           // false: containers of the network do not reach each other
	OptBind       = "com.docker.network.bridge.host_binding_ipv4"    // where ports without a host address are published
	OptPrefix     = "com.docker.network.container_iface_prefix"      // how interfaces inside the containers are called; eth
	OptName       = "com.docker.network.bridge.name"                 // a further name of the bridge: its kernel altname
	OptParent     = "parent"                                         // macvlan, ipvlan: the host's link
	OptMacvlan    = "macvlan_mode"
	OptIPvlan     = "ipvlan_mode"
)

// Known says whether a driver option has an effect.
func Known(option string) bool {
	switch option {
	case OptMTU, OptMasquerade, OptTalk, OptBind, OptPrefix, OptName, OptParent, OptMacvlan, OptIPvlan:
		return true
	}
	return false
}

// The options of an endpoint that davit knows, by Docker's names.
const (
	OptInterface = "com.docker.network.endpoint.ifname"  // the interface's name inside the container
	OptSysctls   = "com.docker.network.endpoint.sysctls" // net.ipv4.conf.IFNAME.KEY=VALUE, and more behind commas
)

// KnownAtEndpoint says whether an option of an endpoint has an effect.
func KnownAtEndpoint(option string) bool { return option == OptInterface || option == OptSysctls }

// A Pool is a subnet that addresses are leased from.
type Pool struct {
	Subnet  netip.Prefix          `json:"subnet"`
	Range   netip.Prefix          `json:"range,omitzero"` // zero: the whole subnet
	Gateway netip.Addr            `json:"gateway"`
	Aux     map[string]netip.Addr `json:"aux,omitempty"`
}

// An Endpoint is a container's place on a network. Zero addresses are filled
// in by Attach.
type Endpoint struct {
	Network     string     `json:"network"`
	Container   string     `json:"container"` // id
	Project     string     `json:"project"`
	Name        string     `json:"name"`            // the container's
	Names       []string   `json:"names,omitempty"` // further names: service, aliases, SERVICE.PROJECT, short id
	IPv4        netip.Addr `json:"ipv4,omitzero"`
	IPv6        netip.Addr `json:"ipv6,omitzero"`
	LinkLocal   []string   `json:"linkLocal,omitempty"`
	MAC         string     `json:"mac,omitempty"`
	Interface   string     `json:"interface,omitempty"` // inside the container
	Host        string     `json:"host,omitempty"`      // the veth's other end
	Gateway     bool       `json:"gateway,omitempty"`   // the default route goes through here
	Sysctls     string     `json:"sysctls,omitempty"`   // see OptSysctls
	Since       time.Time  `json:"since,omitzero"`
	Boot        string     `json:"boot,omitempty"`        // in which it was attached (random(4)); clocks jump
	LinkAliases []string   `json:"linkAliases,omitempty"` // NAME:ALIAS, for this container alone
}

// A Publication is one host port that leads to a container.
type Publication struct {
	HostIP        netip.Addr `json:"hostIP,omitzero"`       // zero: every address, both families
	HostPort      uint16     `json:"hostPort"`              // 0: any free one
	HostPortEnd   uint16     `json:"hostPortEnd,omitempty"` // the first free one from HostPort to here; 0: HostPort alone
	ContainerPort uint16     `json:"containerPort"`
	Protocol      string     `json:"protocol"` // tcp, udp, sctp
	Container     string     `json:"container"`
	Network       string     `json:"network"`
	To            netip.Addr `json:"to"`           // the container's address
	To6           netip.Addr `json:"to6,omitzero"` // its IPv6 address, when it has one
}

// TCP returns the publications of TCP ports among others.
func TCP(pubs []Publication) []Publication {
	return slices.DeleteFunc(slices.Clone(pubs), func(p Publication) bool { return p.Protocol != "tcp" })
}

// Doors are the TCP ports that are listened on where a container lives.
type Doors interface {
	// Look returns those ports, each with how many connections nobody there
	// has accepted yet.
	Look() (map[uint16]int, error)
	Close() error
}

// Records is where a network keeps what must outlive a process: atomic writes,
// ErrNotExist (io/fs) for what is not there. Keys are relative slash paths.
type Records interface {
	Read(key string, v any) error
	Write(key string, v any) error
	Remove(key string) error // idempotent
	List(dir string) ([]string, error)
	// Lock takes the named lock of the whole host; unlock gives it up.
	Lock(name string) (unlock func(), err error)
	// Dir is the directory on disk behind a key, to be watched for changes.
	Dir(key string) string
}
