package project

import (
	"net/netip"
	"strings"
	"testing"
)

// What copies of one project would share is told apart by the project's name;
// what is external, and what has the name already, stays.
func TestIsolate(t *testing.T) {
	p := &Project{
		Name: "app-1",
		Services: map[string]*Service{
			"web":   {Name: "web", ContainerName: "web", Build: &Build{}, Container: Container{Image: "team/web:2"}},
			"twin":  {Name: "twin", ContainerName: "app-1-twin", Container: Container{Image: "team/web:2", NetworkMode: "container:web"}},
			"built": {Name: "built", Build: &Build{}, Container: Container{Image: "host:5000/built"}},
			"db":    {Name: "db", Container: Container{Image: "postgres:16"}},
		},
		Networks: map[string]*Network{"own": {Name: "lan"}, "default": {Name: "app-1_default"}, "far": {Name: "far", External: true}},
		Volumes:  map[string]*Volume{"own": {Name: "data"}, "far": {Name: "shared", External: true}},
	}
	for range 2 { // the second time nothing is left to do
		p.Isolate()
		for what, pair := range map[string][2]string{
			"fixed container": {p.Services["web"].ContainerName, "app-1-web"},
			"own container":   {p.Services["twin"].ContainerName, "app-1-twin"},
			"joined":          {p.Services["twin"].NetworkMode, "container:app-1-web"},
			"built image":     {p.Services["web"].Image, "team/web:2-app-1"},
			"named image":     {p.Services["twin"].Image, "team/web:2-app-1"},
			"untagged image":  {p.Services["built"].Image, "host:5000/built:app-1"},
			"pulled image":    {p.Services["db"].Image, "postgres:16"},
			"network":         {p.Networks["own"].Name, "app-1_lan"},
			"default network": {p.Networks["default"].Name, "app-1_default"},
			"shared network":  {p.Networks["far"].Name, "far"},
			"volume":          {p.Volumes["own"].Name, "app-1_data"},
			"shared volume":   {p.Volumes["far"].Name, "shared"},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s is called %s, not %s", what, pair[0], pair[1])
			}
		}
	}
}

// A fixed subnet takes the addresses that lie in it along when it is moved; others
// stay.
func TestMoveSubnet(t *testing.T) {
	own := &Pool{Subnet: "172.30.16.0/20", Gateway: "172.30.16.1", IPRange: "172.30.24.0/21",
		AuxiliaryAddresses: map[string]string{"router": "172.30.17.9"}}
	six := &Pool{Subnet: "fd00:1::/64", Gateway: "fd00:1::1"}
	web := &Service{Container: Container{
		Networks:   map[string]*NetworkUse{"own": {Ipv4Address: "172.30.31.254", Ipv6Address: "fd00:1::7"}, "far": {Ipv4Address: "172.30.16.5"}},
		ExtraHosts: map[string][]string{"db": {"172.30.20.1", "host-gateway", "10.0.0.1"}}, DNS: []string{"172.30.16.53", "9.9.9.9"},
	}}
	p := &Project{
		Services: map[string]*Service{"web": web},
		Networks: map[string]*Network{
			"own": {Ipam: IPAM{Config: []*Pool{own, six}}},
			"far": {External: true, Ipam: IPAM{Config: []*Pool{{Subnet: "172.30.16.0/20"}}}},
		},
	}
	fixed := p.Subnets()
	if len(fixed) != 2 || fixed[0].Network != "own" || fixed[1].Prefix.String() != "fd00:1::/64" {
		t.Fatalf("fixed: %v", fixed)
	}
	p.MoveSubnet(fixed[0], netip.MustParsePrefix("10.128.48.0/20"))
	p.MoveSubnet(fixed[1], netip.MustParsePrefix("fd77::/64"))
	for got, want := range map[string]string{
		own.Subnet: "10.128.48.0/20", own.Gateway: "10.128.48.1", own.IPRange: "10.128.56.0/21",
		own.AuxiliaryAddresses["router"]: "10.128.49.9", web.Networks["own"].Ipv4Address: "10.128.63.254",
		six.Subnet: "fd77::/64", six.Gateway: "fd77::1", web.Networks["own"].Ipv6Address: "fd77::7",
		web.Networks["far"].Ipv4Address:         "172.30.16.5",
		strings.Join(web.ExtraHosts["db"], " "): "10.128.52.1 host-gateway 10.0.0.1",
		strings.Join(web.DNS, " "):              "10.128.48.53 9.9.9.9",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
