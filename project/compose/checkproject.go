package compose

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/davit-run/davit/project/order"
)

func (c *checker) jobs() {
	for _, name := range slices.Sorted(maps.Keys(c.p.AllJobs())) {
		if _, both := c.any(name); both {
			c.wrong("jobs."+name, "call one of the two something else", "%q is declared both as a service and a job: service and job names must be unique", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.p.Jobs)) {
		j := c.p.Jobs[name]
		if j.Build == nil && j.Image == "" {
			c.wrong("jobs."+name, "add image: or build:", "job %q has neither an image nor a build context specified", name)
		}
		for _, dep := range slices.Sorted(maps.Keys(j.DependsOn)) {
			_, job := c.p.Jobs[dep]
			_, service := c.p.Services[dep]
			_, disabled := c.p.DisabledServices[dep]
			if !job && !service && (!disabled || j.DependsOn[dep].Required) {
				c.wrong("jobs."+name+".depends_on", near(dep, c.p.Services), "job %q depends on undefined service or job %q", name, dep)
			}
		}
	}
}

// files sees to it that every secret and config has exactly one source.
func (c *checker) files() {
	for _, name := range slices.Sorted(maps.Keys(c.p.Secrets)) {
		c.file("secrets."+name, types.FileObjectConfig(c.p.Secrets[name]), "file", "environment")
	}
	for _, name := range slices.Sorted(maps.Keys(c.p.Configs)) {
		c.file("configs."+name, types.FileObjectConfig(c.p.Configs[name]), "file", "environment", "content")
	}
}

func (c *checker) file(at string, f types.FileObjectConfig, kinds ...string) {
	var given []string
	for _, k := range kinds {
		if k == "file" && f.File != "" || k == "environment" && f.Environment != "" || k == "content" && f.Content != "" && f.Environment == "" || c.written(at+"."+k) {
			given = append(given, k)
		}
	}
	switch {
	case len(given) > 1:
		c.wrong(at, "keep one of them", "%s attributes are mutually exclusive", strings.Join(given, ", "))
	case len(given) == 0 && f.Driver == "" && !bool(f.External):
		c.wrong(at, "", "one of %s must be set", strings.Join(kinds, ", "))
	}
}

// resources looks at networks and volumes.
func (c *checker) resources() {
	for _, name := range slices.Sorted(maps.Keys(c.p.Volumes)) {
		v := c.p.Volumes[name]
		if v.External && (v.Driver != "" || len(v.DriverOpts) > 0 || len(v.Labels) > 0) {
			c.wrong("volumes."+name, "take driver, driver_opts and labels away, or external", "is external, which conflicts with what else is said of it")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.p.Networks)) {
		for i, pool := range c.p.Networks[name].Ipam.Config {
			if pool != nil {
				c.pool("networks."+name+".ipam.config."+strconv.Itoa(i), pool)
			}
		}
	}
}

func (c *checker) pool(at string, p *types.IPAMPool) {
	var subnet netip.Prefix
	if p.Subnet != "" {
		var err error
		if subnet, err = netip.ParsePrefix(p.Subnet); err != nil {
			c.wrong(at+".subnet", "write it as 10.5.0.0/16", "%q is not a subnet", p.Subnet)
			return
		}
	}
	if p.IPRange != "" {
		if r, err := netip.ParsePrefix(p.IPRange); err != nil || subnet.IsValid() && !subnet.Contains(r.Addr()) {
			c.wrong(at+".ip_range", "write a part of the subnet", "%q is not a range of %s", p.IPRange, or(p.Subnet, "a subnet"))
		}
	}
	if p.Gateway != "" {
		if a, err := netip.ParseAddr(p.Gateway); err != nil || subnet.IsValid() && !subnet.Contains(a) {
			c.wrong(at+".gateway", "write an address of the subnet", "%q is not an address of %s", p.Gateway, or(p.Subnet, "a subnet"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.AuxiliaryAddresses)) {
		if _, err := netip.ParseAddr(p.AuxiliaryAddresses[name]); err != nil {
			c.wrong(at+".aux_addresses."+name, "", "%q is not an address", p.AuxiliaryAddresses[name])
		}
	}
}

// names sees to it that no two containers want the same fixed name.
func (c *checker) names() {
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.p.Services)) {
		s := c.p.Services[name]
		if s.ContainerName == "" {
			continue
		}
		if other, taken := first[s.ContainerName]; taken {
			c.wrong(key(&s, "container_name"), "give one of the two another name", "container name %q is already in use by service %s", s.ContainerName, other)
			continue
		}
		first[s.ContainerName] = name
	}
}

// maxCycles is how many circles are told of at once.
const maxCycles = 20

// cycles finds the circles of services that need each other, by whatever key.
// Each is opened where it was met, so that the next one shows.
func (c *checker) cycles() {
	needs := make(map[string][]string, len(c.p.Services)+len(c.p.Jobs))
	for name, s := range c.p.Services {
		needs[name] = slices.Collect(maps.Keys(s.DependsOn))
	}
	for name, j := range c.p.Jobs {
		needs[name] = slices.Collect(maps.Keys(j.DependsOn))
	}
	for range maxCycles {
		_, err := order.Sort(needs)
		var cycle order.Cycle
		if !errors.As(err, &cycle) {
			return
		}
		c.cycle(cycle)
		needs[cycle[0]] = slices.DeleteFunc(needs[cycle[0]], func(name string) bool { return name == cycle[1] })
	}
}

func (c *checker) cycle(cycle order.Cycle) {
	s := c.p.Services[cycle[0]]
	at := "jobs." + cycle[0] + ".depends_on"
	if s.Name != "" {
		at = c.needs(&s, cycle[1])
	}
	fix := "take one of these dependencies out"
	if edges := c.edges(cycle); len(edges) > 0 {
		fix = "take one of these out: " + strings.Join(edges, ", ")
	}
	c.wrong(at, fix, "%s", cycle.Error())
}

func (c *checker) edges(cycle order.Cycle) []string {
	var out []string
	for i := range cycle[:len(cycle)-1] {
		s, ok := c.p.Services[cycle[i]]
		if !ok || len(out) == 5 {
			continue
		}
		k := strings.TrimPrefix(c.needs(&s, cycle[i+1]), "services."+s.Name+".")
		k, _, _ = strings.Cut(k, ".")
		out = append(out, fmt.Sprintf("%s %s %s", cycle[i], k, cycle[i+1]))
	}
	return out
}
