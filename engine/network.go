package engine

import "time"

// A Network is a bridge of this host that containers join.
type Network struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Project    string            `json:"project,omitempty"` // who made it; empty: a person
	Created    time.Time         `json:"created"`
	Driver     string            `json:"driver,omitempty"` // bridge when empty
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	NoIPv4     bool              `json:"noIPv4,omitempty"`
	IPv6       bool              `json:"ipv6,omitempty"`
	Options    Options           `json:"options,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	IPAM       []Pool            `json:"ipam,omitempty"` // as asked for; empty: davit chooses
	IPAMDriver string            `json:"ipamDriver,omitempty"`
	IPAMOpts   Options           `json:"ipamOptions,omitempty"`
}

// A Pool is one subnet of a network.
type Pool struct {
	Subnet  string  `json:"subnet"`
	Range   string  `json:"range,omitempty"`
	Gateway string  `json:"gateway,omitempty"`
	Aux     Options `json:"aux,omitempty"`
}

// A Volume is a directory that outlives containers.
type Volume struct {
	Name      string            `json:"name"`
	Project   string            `json:"project,omitempty"`
	Created   time.Time         `json:"created"`
	Driver    string            `json:"driver,omitempty"` // local when empty
	Options   Options           `json:"options,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Anonymous bool              `json:"anonymous,omitempty"`
}
