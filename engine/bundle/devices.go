package bundle

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	config "github.com/opencontainers/cgroups/devices/config"

	"github.com/davit-run/davit/engine"
)

// defaultNodes are the nodes made in every container; ptmx, the pts and the
// links are libcontainer's.
func defaultNodes() []*config.Device {
	dev := func(name string, major, minor int64) *config.Device {
		return &config.Device{
			Path: "/dev/" + name, FileMode: 0o666,
			Rule: rule(config.CharDevice, major, minor, "rwm"),
		}
	}
	return []*config.Device{
		dev("null", 1, 3), dev("random", 1, 8), dev("full", 1, 7),
		dev("tty", 5, 0), dev("zero", 1, 5), dev("urandom", 1, 9),
	}
}

func rule(kind config.Type, major, minor int64, perm config.Permissions) config.Rule {
	return config.Rule{Type: kind, Major: major, Minor: minor, Permissions: perm, Allow: true}
}

// defaultRules deny every device and then allow what HARDENING 1.5 lists: all
// nodes may be made, few may be opened, and net/tun is not among them.
func defaultRules() []*config.Rule {
	const any = config.Wildcard
	deny := config.Rule{Type: config.WildcardDevice, Major: any, Minor: any, Permissions: "rwm"}
	rules := []config.Rule{
		deny,
		rule(config.CharDevice, any, any, "m"),
		rule(config.BlockDevice, any, any, "m"),
		rule(config.CharDevice, 5, 1, "rwm"),     // console
		rule(config.CharDevice, 5, 2, "rwm"),     // ptmx
		rule(config.CharDevice, 136, any, "rwm"), // pts
	}
	out := make([]*config.Rule, 0, 16)
	for i := range rules {
		out = append(out, &rules[i])
	}
	for _, d := range defaultNodes() {
		out = append(out, &d.Rule)
	}
	return out
}

// devices lists the nodes and what may be done with them.
func (b *builder) devices() error {
	s := b.c.Spec.Security
	cfg := b.out.Config
	if s.Privileged {
		return b.allDevices()
	}
	cfg.Devices = defaultNodes()
	rules := defaultRules()
	for _, d := range s.Devices {
		nodes, err := hostDevice(d)
		if err != nil {
			return fmt.Errorf("device %s: %w", d.Source, err)
		}
		for _, n := range nodes {
			cfg.Devices = append(slices.DeleteFunc(cfg.Devices, func(o *config.Device) bool { return o.Path == n.Path }), n)
			rules = append(rules, &n.Rule)
		}
	}
	for _, r := range s.DeviceRules {
		parsed, err := deviceRule(r)
		if err != nil {
			return fmt.Errorf("device_cgroup_rules %q: %w", r, err)
		}
		rules = append(rules, parsed)
	}
	cfg.Cgroups.Devices = rules
	return nil
}

// allDevices is what a privileged container gets: every node of the host.
func (b *builder) allDevices() error {
	all, err := nodes("/dev", "rwm")
	if err != nil {
		return err
	}
	for _, n := range append(defaultNodes(), all...) {
		if !slices.ContainsFunc(b.out.Config.Devices, func(o *config.Device) bool { return o.Path == n.Path }) {
			b.out.Config.Devices = append(b.out.Config.Devices, n)
		}
	}
	every := rule(config.WildcardDevice, config.Wildcard, config.Wildcard, "rwm")
	b.out.Config.Cgroups.Devices = []*config.Rule{&every}
	for _, d := range b.c.Spec.Security.Devices {
		more, err := hostDevice(d)
		if err != nil {
			return fmt.Errorf("device %s: %w", d.Source, err)
		}
		for _, n := range more {
			b.out.Config.Devices = append(slices.DeleteFunc(b.out.Config.Devices, func(o *config.Device) bool { return o.Path == n.Path }), n)
		}
	}
	return nil
}

// hostDevice reads one node of the host, or all nodes of a directory.
func hostDevice(d engine.Device) ([]*config.Device, error) {
	perm := config.Permissions(d.Permissions)
	if perm == "" {
		perm = "rwm"
	}
	if strings.Trim(string(perm), "rwm") != "" {
		return nil, fmt.Errorf("permissions %q: use r, w and m", perm)
	}
	target := d.Target
	if target == "" {
		target = d.Source
	}
	st, err := os.Stat(d.Source)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		n, err := node(d.Source, perm)
		if err != nil {
			return nil, err
		}
		n.Path = path.Clean(target)
		return []*config.Device{n}, nil
	}
	found, err := nodes(d.Source, perm)
	for _, n := range found {
		n.Path = path.Join(target, strings.TrimPrefix(n.Path, d.Source))
	}
	return found, err
}

// deviceRule reads a rule such as "c 1:3 mr".
func deviceRule(s string) (*config.Rule, error) {
	f := strings.Fields(s)
	if len(f) != 3 || len(f[0]) != 1 || !strings.Contains("acb", f[0]) {
		return nil, fmt.Errorf("use TYPE MAJOR:MINOR PERMISSIONS, such as c 1:3 mr")
	}
	majorText, minorText, ok := strings.Cut(f[1], ":")
	major, err1 := deviceNumber(majorText)
	minor, err2 := deviceNumber(minorText)
	if !ok || err1 != nil || err2 != nil {
		return nil, fmt.Errorf("%q is no pair of device numbers", f[1])
	}
	if strings.Trim(f[2], "rwm") != "" {
		return nil, fmt.Errorf("permissions %q: use r, w and m", f[2])
	}
	r := rule(config.Type(f[0][0]), major, minor, config.Permissions(f[2]))
	return &r, nil
}

func deviceNumber(s string) (int64, error) {
	if s == "*" {
		return config.Wildcard, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return int64(n), err
}
