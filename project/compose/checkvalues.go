package compose

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"
)

func (c *checker) counts(s *types.ServiceConfig) {
	if s.Scale != nil && s.Deploy != nil {
		if r := s.Deploy.Replicas; r != nil && *r != *s.Scale {
			c.wrong(key(s, "scale"), "give the number in one place", "can't set distinct values on 'scale' (%d) and 'deploy.replicas' (%d)", *s.Scale, *r)
		}
		deploy := *s.Deploy
		deploy.Replicas = s.Scale
		s.Deploy = &deploy
	}
	at := key(s, "scale")
	if s.Scale == nil {
		at = key(s, "deploy", "replicas")
	}
	if s.GetScale() < 0 {
		c.wrong(at, "", "must be greater than or equal to 0")
	}
	if s.GetScale() > 1 && s.ContainerName != "" {
		c.wrong(key(s, "container_name"), "take container_name away, or run one container",
			"can't set container_name and run %d containers (%s): a container name must be unique", s.GetScale(), at)
	}
}

func (c *checker) limits(s *types.ServiceConfig) {
	if s.Deploy == nil {
		return
	}
	differ := func(own, deploy string) {
		c.wrong(key(s, own), "give it in one place", "can't set distinct values on '%s' and 'deploy.resources.%s'", own, deploy)
	}
	if l := s.Deploy.Resources.Limits; l != nil {
		if s.CPUS != 0 && l.NanoCPUs.Value() != s.CPUS {
			differ("cpus", "limits.cpus")
		}
		if s.MemLimit != 0 && l.MemoryBytes != s.MemLimit {
			differ("mem_limit", "limits.memory")
		}
		if s.PidsLimit != 0 && l.Pids != s.PidsLimit {
			differ("pids_limit", "limits.pids")
		}
	}
	if r := s.Deploy.Resources.Reservations; r != nil && s.MemReservation != 0 && r.MemoryBytes != s.MemReservation {
		differ("mem_reservation", "reservations.memory")
	}
	c.devices(s)
}

// storage sees to it that the writable layer's only option is a size.
func (c *checker) storage(s *types.ServiceConfig) {
	for _, name := range slices.Sorted(maps.Keys(s.StorageOpt)) {
		value := s.StorageOpt[name]
		if name != "size" {
			c.wrong(key(s, "storage_opt", name), "the writable layer has one option, size", "no such storage option")
		} else if n, err := units.RAMInBytes(value); err != nil || n <= 0 {
			c.wrong(key(s, "storage_opt", name), "write it as 512m or 10g", "%q is not a size", value)
		}
	}
}

func (c *checker) devices(s *types.ServiceConfig) {
	both := func(at string, list []types.DeviceRequest) {
		for i, d := range list {
			if d.Count != 0 && len(d.IDs) > 0 && c.written(at+"."+strconv.Itoa(i)+".count") {
				c.wrong(at+"."+strconv.Itoa(i), "keep one of the two", `"count" and "device_ids" attributes are exclusive`)
			}
		}
	}
	both(key(s, "gpus"), s.Gpus)
	if r := s.Deploy.Resources.Reservations; r != nil {
		both(key(s, "deploy", "resources", "reservations", "devices"), r.Devices)
	}
}

func (c *checker) watch(s *types.ServiceConfig) {
	if s.Develop == nil {
		return
	}
	for i, w := range s.Develop.Watch {
		at := key(s, "develop", "watch", strconv.Itoa(i))
		if w.Path == "" {
			c.wrong(at, "add path: and what to watch", "path can't be blank")
		}
		if w.Target == "" && w.Action != types.WatchActionRebuild && w.Action != types.WatchActionRestart {
			c.wrong(at, "add target: and the path in the container", "target is required for action %q", w.Action)
		}
	}
}

// targets sees to it that no two mounts have the same place.
func (c *checker) targets(s *types.ServiceConfig) {
	mounts := map[string]string{}
	add := func(at, target string) {
		if first, taken := mounts[target]; taken {
			c.wrong(at, "give one of the two another target", "target %s already mounted as %s", target, first)
			return
		}
		mounts[target] = at
	}
	for i, t := range s.Tmpfs {
		target, _, _ := strings.Cut(t, ":")
		add(key(s, "tmpfs", strconv.Itoa(i)), target)
	}
	for i, v := range s.Volumes {
		at := key(s, "volumes", strconv.Itoa(i))
		add(at, v.Target)
		if v.Type == types.VolumeTypeBind && v.Source == "" {
			c.wrong(at, "add source:", "a bind mount needs a source")
		}
	}
}

func (c *checker) ports(s *types.ServiceConfig) {
	for i, p := range s.Ports {
		at := key(s, "ports", strconv.Itoa(i))
		if p.HostIP != "" && net.ParseIP(p.HostIP) == nil {
			c.wrong(at, "write an address of this host, such as 127.0.0.1", "invalid ip address: %s", p.HostIP)
		}
		if p.Target == 0 || p.Target > 65535 {
			c.wrong(at, "ports go from 1 to 65535", "%d is not a container port", p.Target)
		}
		if !isPublished(p.Published) {
			c.wrong(at, "write a port from 1 to 65535, or a range FIRST-LAST", "%q is not a host port", p.Published)
		}
		switch p.Protocol {
		case "", "tcp", "udp", "sctp":
		default:
			c.wrong(at, "use one of: tcp, udp, sctp", "%q is not a protocol", p.Protocol)
		}
	}
}

func isPublished(s string) bool {
	if s == "" {
		return true
	}
	first, last, isRange := strings.Cut(s, "-")
	a, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return false
	}
	if !isRange {
		return true
	}
	b, err := strconv.ParseUint(last, 10, 16)
	return err == nil && b >= a
}

// words looks at values that the schema takes for any string.
func (c *checker) words(s *types.ServiceConfig) {
	if !isRestart(s.Restart) {
		mode, _, _ := strings.Cut(s.Restart, ":")
		fix := "use one of: no, always, on-failure[:N], unless-stopped"
		if n := nearestOf(mode, []string{"no", "always", "on-failure", "unless-stopped"}); n != "" {
			fix = fmt.Sprintf("did you mean %q? (one of: no, always, on-failure[:N], unless-stopped)", n)
		}
		c.wrong(key(s, "restart"), fix, "%q is not a restart policy", s.Restart)
	}
	if _, _, err := s.GetPullPolicy(); err != nil {
		c.wrong(key(s, "pull_policy"), "use one of: always, never, missing, if_not_present, build, refresh, daily, weekly, every_N(w|d|h|m|s)", "%q is not a pull policy", s.PullPolicy)
	}
	if s.MemSwappiness < 0 || s.MemSwappiness > 100 {
		c.wrong(key(s, "mem_swappiness"), "", "%d is not from 0 to 100", s.MemSwappiness)
	}
	if s.ContainerName != "" && !isName(s.ContainerName) {
		c.wrong(key(s, "container_name"), "use letters, digits and _ . - only, a letter or digit first", "%q is not a container name", shorten(s.ContainerName))
	}
	if s.Name == "." || s.Name == ".." {
		c.wrong(key(s), "", "%q is not a service name", s.Name)
	}
}

func isRestart(s string) bool {
	mode, count, counted := strings.Cut(s, ":")
	switch mode {
	case "", "no", "always", "unless-stopped":
		return !counted
	case "on-failure":
		_, err := strconv.ParseUint(count, 10, 31)
		return !counted || err == nil
	}
	return false
}

// isName says whether a container may have the name: [a-zA-Z0-9][a-zA-Z0-9_.-]+.
func isName(s string) bool {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '_' && r != '.' && r != '-') {
			return false
		}
	}
	return len(s) > 1 && len(s) <= 255
}

func (c *checker) addresses(s *types.ServiceConfig, name string, n *types.ServiceNetworkConfig) {
	if n == nil {
		return
	}
	for _, a := range []struct{ key, value string }{{"ipv4_address", n.Ipv4Address}, {"ipv6_address", n.Ipv6Address}} {
		if a.value == "" {
			continue
		}
		addr, err := netip.ParseAddr(a.value)
		if err != nil || addr.Is4() != (a.key == "ipv4_address") {
			c.wrong(key(s, "networks", name, a.key), "", "%q is not an address of that kind", a.value)
		}
	}
	for i, l := range n.LinkLocalIPs {
		if _, err := netip.ParseAddr(l); err != nil {
			c.wrong(key(s, "networks", name, "link_local_ips", strconv.Itoa(i)), "", "%q is not an address", l)
		}
	}
}
